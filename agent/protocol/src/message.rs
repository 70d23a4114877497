//! What peers say to each other. Bodies are encoded with postcard; kinds are numbers that are never used again.
//!
//! A session starts with [`Hello`] on both sides, then [`Volume`] for each volume. From then on each side streams its
//! rows in the order of its own sequence ([`Entries`]), skipping what the other's knowledge covers, says when the other
//! has everything ([`Covers`]), and hears how far the other has got ([`Progress`]).

use crate::limits::{BATCH_ENTRIES, LIST_ITEMS, PART_ROWS, PARTS, REVOKED_BYTES};
use serde::{Deserialize, Serialize};
use std::fmt;
use syncmesh_core::entry::{ContentHash, Entry};
use syncmesh_core::limits::{BLOCK_BYTES, INLINE_BYTES};
use syncmesh_core::path::RelativePath;
use syncmesh_core::summary::Sum;
use syncmesh_core::version::{Knowledge, ReplicaId};

/// The versions of the protocol that this release speaks: lowest and highest.
pub const VERSIONS: (u16, u16) = (1, 1);

/// First message of each side.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Hello {
    /// Lowest protocol version that it speaks.
    pub lowest: u16,
    /// Highest protocol version that it speaks. The highest that both have is spoken.
    pub highest: u16,
    /// Its name, which must be the certificate's.
    pub node: String,
    /// Its incarnation: new at every start. Positions in its sequences are valid for this incarnation only.
    pub replica: ReplicaId,
    /// Its wall clock in milliseconds since 1970.
    pub wall_millis: u64,
    /// Bits of optional features; none yet.
    pub features: u64,
}

/// A volume that the sender keeps, under the number that its frames carry from here on.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Volume {
    /// The name, by which nodes of one mesh find their common volumes.
    pub name: String,
    /// Digest of the conflict policies, which must be the same on all nodes.
    pub policies: u64,
    /// What the sender knows.
    pub knowledge: Knowledge,
    /// The join of the dots of tombstones that it has dropped (empty today).
    pub forgotten: Knowledge,
    /// How far the sender has recorded the receiver's sequence, and in which incarnation of the receiver.
    pub resume: Option<(ReplicaId, u64)>,
    /// How many files the sender has.
    pub files: u64,
    /// The sender has paused it: it takes nothing and sends nothing.
    pub paused: bool,
    /// The sender's copy is being filled for the first time: nobody can rely on it yet.
    pub filling: bool,
}

/// One row of the sender.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Announced<'a> {
    /// Its number in the sender's sequence.
    pub sequence: u64,
    /// Its path.
    pub path: RelativePath,
    /// What is declared.
    pub entry: Entry,
    /// The file's contents, where they are small and the sender has them.
    #[serde(borrow, with = "serde_bytes")]
    pub contents: Option<&'a [u8]>,
}

/// A batch of rows in the order of the sender's sequence.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Entries<'a> {
    /// At most 256 rows.
    #[serde(borrow)]
    pub rows: Vec<Announced<'a>>,
}

/// "You were sent every row of mine up to this number, but for versions of some replicas that you hear yourself. Who has
/// recorded them all knows this, those replicas excepted."
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Covers {
    /// The end of the sender's sequence.
    pub sequence: u64,
    /// The sender's knowledge at that point.
    pub knowledge: Knowledge,
    /// Replicas whose versions were left to themselves to send.
    pub left_out: Vec<ReplicaId>,
    /// The sum over what the sender knows of all paths: who has its knowledge, all of it, has the same.
    pub sum: Sum,
}

/// How far the sender of this message has got with the receiver's sequence.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Progress {
    /// All rows up to here are in its registry, or its journal.
    pub recorded: u64,
    /// All rows up to here are visible on its disk.
    pub visible: u64,
    /// All rows up to here survive power loss there.
    pub durable: u64,
    /// Bytes of entries that it has taken since the session began; gives credit.
    pub taken_bytes: u64,
}

/// "This is my sum of each of these parts. Where yours differs, tell me more." Parts are ranges in the order of rows: by
/// directory, then by name.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Compare {
    /// Digest of the sender's knowledge. Sums of different knowledge say nothing.
    pub knowledge: u64,
    /// The first part begins behind this path; `None`: with the first path.
    pub after: Option<RelativePath>,
    /// Parts, one behind the other; at most 16.
    pub parts: Vec<Part>,
}

/// One part of a volume.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Part {
    /// The last path that belongs to it; `None`: it has no end.
    pub upto: Option<RelativePath>,
    /// The sender's sum over it.
    pub sum: Sum,
}

/// "This is all that I know of a part, and your sum of it is another."
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Rows {
    /// See [`Compare::knowledge`].
    pub knowledge: u64,
    /// It begins behind this path; `None`: with the first path.
    pub after: Option<RelativePath>,
    /// The last path that belongs to it; `None`: it has no end.
    pub upto: Option<RelativePath>,
    /// At most 64 paths and what is declared of them.
    pub rows: Vec<(RelativePath, Entry)>,
}

/// The answer to [`Rows`]: what the sender knows otherwise, or what the other lacks.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Repair {
    /// At most 64 paths and what is declared of them.
    pub rows: Vec<(RelativePath, Entry)>,
}

/// Asks for a part of a file that the receiver has announced.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Request {
    /// Comes back with the answer.
    pub id: u64,
    /// Whose contents.
    pub path: RelativePath,
    /// The contents that are asked for; other contents of that path are refused.
    pub hash: ContentHash,
    /// First byte.
    pub offset: u64,
    /// How many bytes, at most a block.
    pub length: u32,
}

/// The answer to a [`Request`].
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Block<'a> {
    /// The request's.
    pub id: u64,
    /// The request's.
    pub offset: u64,
    /// As many bytes as were asked for, fewer at the file's end.
    #[serde(borrow, with = "serde_bytes")]
    pub bytes: &'a [u8],
    /// Hashes of subtrees that prove the bytes (reserved; whole contents are verified today).
    #[serde(borrow, with = "serde_bytes")]
    pub proof: &'a [u8],
}

/// Why a request has no block for an answer.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Refusal {
    /// The path has other contents now; a newer version is announced.
    Changed,
    /// The volume or path isn't known here.
    Unknown,
    /// The disk refused to read it.
    Unreadable,
}

/// Why a side ends a session.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Farewell {
    /// It stops, or restarts.
    Stopping,
    /// No common protocol version.
    Version,
    /// The other's node isn't among its peers.
    NotAMember,
    /// Another session of the two nodes serves already.
    Redundant,
    /// The hello's node isn't the certificate's, or its own.
    Name,
    /// The other broke the protocol.
    Protocol,
    /// Another run of the other's node has a session here, and is alive: two copies of one machine.
    Twin,
    /// It goes on under a new incarnation.
    Renewed,
    /// Who keeps which volume has changed.
    Members,
    /// The other's certificate is revoked. The list that says so went before.
    Revoked,
}

impl Farewell {
    /// The reason from the side that gives it.
    pub fn reason_here(self) -> &'static str {
        match self {
            Self::Stopping => "this agent stops",
            Self::Version => "no common protocol version: upgrade the older of the two agents",
            Self::NotAMember => {
                "it isn't among `peers` in this node's configuration: add it there if it belongs to the mesh"
            }
            Self::Redundant => "another connection with it serves already",
            Self::Name => "the name in its hello isn't its certificate's, or is this node's own",
            Self::Protocol => "it broke the protocol",
            Self::Twin => "two agents run under its name: stop one of them, and issue it an identity of its own",
            Self::Renewed => "this agent goes on under a new incarnation",
            Self::Members => "a volume's members have changed",
            Self::Revoked => "its certificate is revoked: it is let in again with one that was issued since",
        }
    }
}

impl fmt::Display for Farewell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Stopping => "it stops",
            Self::Version => "no common protocol version: upgrade the older of the two agents",
            Self::NotAMember => "it doesn't list this node among its peers: add it to `peers` in its configuration",
            Self::Redundant => "another connection serves already",
            Self::Name => "the name in the hello isn't the certificate's",
            Self::Protocol => "the protocol was broken",
            Self::Twin => {
                "another agent with this node's name has a session there: two copies of one machine run, stop one of them and issue it an identity of its own"
            }
            Self::Renewed => "it goes on under a new incarnation",
            Self::Members => "a volume's members have changed",
            Self::Revoked => {
                "this node's certificate is revoked there: issue it another one (in a cluster the agent asks for one by itself)"
            }
        })
    }
}

/// All that can be said.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Message<'a> {
    /// See [`Hello`].
    Hello(Hello),
    /// See [`Volume`].
    Volume(Volume),
    /// See [`Entries`].
    Entries(Entries<'a>),
    /// See [`Covers`].
    Covers(Covers),
    /// See [`Progress`].
    Progress(Progress),
    /// See [`Request`].
    Request(Request),
    /// See [`Block`].
    Block(Block<'a>),
    /// The answer to a request that can't be met: its id and why.
    Refused(u64, Refusal),
    /// Heartbeat: a number that comes back.
    Ping(u64),
    /// The number of a [`Message::Ping`].
    Pong(u64),
    /// Runs of agents with which the sender exchanges the volume. Sent once both sides have named it, and whenever it changes.
    Sessions(Vec<ReplicaId>),
    /// Which node a replica belongs to. Sent before the first entry that names the replica.
    Replicas(Vec<(ReplicaId, String)>),
    /// The sender ends the session.
    Goodbye(Farewell),
    /// See [`Compare`].
    Compare(Compare),
    /// See [`Rows`].
    Rows(Rows),
    /// See [`Repair`].
    Repair(Repair),
    /// The sender has paused a volume, or it goes on.
    Paused(bool),
    /// The sender's copy of a volume is being filled for the first time, or has been.
    Filling(bool),
    /// The revocation list that the sender keeps, as an authority has signed it. Sent before everything else of a session, and
    /// whenever there is a newer one.
    Revoked(&'a str),
}

/// Why a body is no message.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum MessageError {
    /// A kind that this version doesn't know.
    Kind(u8),
    /// The body doesn't decode, or has bytes left over.
    Body {
        /// The message that it should be.
        message: &'static str,
    },
    /// A list, length or entry beyond its limit.
    Limit {
        /// Which.
        what: &'static str,
    },
}

impl fmt::Display for MessageError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Kind(kind) => write!(f, "a message has the unknown kind {kind}"),
            Self::Body { message } => write!(f, "a {message} message can't be decoded"),
            Self::Limit { what } => write!(f, "a message breaks a limit: {what}"),
        }
    }
}

impl std::error::Error for MessageError {}

impl<'a> Message<'a> {
    /// The number that stands for its kind.
    pub fn kind(&self) -> u8 {
        match self {
            Self::Hello(_) => 1,
            Self::Volume(_) => 2,
            Self::Entries(_) => 3,
            Self::Covers(_) => 4,
            Self::Progress(_) => 5,
            Self::Request(_) => 6,
            Self::Block(_) => 7,
            Self::Refused(..) => 8,
            Self::Ping(_) => 9,
            Self::Pong(_) => 10,
            Self::Sessions(_) => 11,
            Self::Replicas(_) => 12,
            Self::Goodbye(_) => 13,
            // 14 is reserved for entries of the fresh lane.
            Self::Compare(_) => 15,
            Self::Rows(_) => 16,
            Self::Repair(_) => 17,
            Self::Paused(_) => 18,
            Self::Filling(_) => 19,
            Self::Revoked(_) => 20,
        }
    }

    /// Its name in logs and errors.
    pub fn name(&self) -> &'static str {
        NAMES[usize::from(self.kind())]
    }

    pub(crate) fn encode_body(&self, out: &mut Vec<u8>) {
        fn append<T: Serialize>(value: &T, out: &mut Vec<u8>) {
            *out =
                postcard::to_extend(value, std::mem::take(out)).expect("messages have no type that postcard refuses");
        }
        match self {
            Self::Hello(body) => append(body, out),
            Self::Volume(body) => append(body, out),
            Self::Entries(body) => append(body, out),
            Self::Covers(body) => append(body, out),
            Self::Progress(body) => append(body, out),
            Self::Request(body) => append(body, out),
            Self::Block(body) => append(body, out),
            Self::Refused(id, why) => append(&(id, why), out),
            Self::Ping(number) | Self::Pong(number) => append(number, out),
            Self::Sessions(nodes) => append(nodes, out),
            Self::Replicas(replicas) => append(replicas, out),
            Self::Goodbye(why) => append(why, out),
            Self::Compare(body) => append(body, out),
            Self::Rows(body) => append(body, out),
            Self::Repair(body) => append(body, out),
            Self::Paused(yes) | Self::Filling(yes) => append(yes, out),
            Self::Revoked(list) => append(list, out),
        }
    }

    pub(crate) fn decode_body(kind: u8, body: &'a [u8]) -> Result<Self, MessageError> {
        fn read<'a, T: Deserialize<'a>>(kind: u8, body: &'a [u8]) -> Result<T, MessageError> {
            match postcard::take_from_bytes(body) {
                Ok((value, [])) => Ok(value),
                _ => Err(MessageError::Body { message: NAMES[usize::from(kind)] }),
            }
        }
        let message = match kind {
            1 => Self::Hello(read(kind, body)?),
            2 => Self::Volume(read(kind, body)?),
            3 => Self::Entries(read(kind, body)?),
            4 => Self::Covers(read(kind, body)?),
            5 => Self::Progress(read(kind, body)?),
            6 => Self::Request(read(kind, body)?),
            7 => Self::Block(read(kind, body)?),
            8 => read(kind, body).map(|(id, why)| Self::Refused(id, why))?,
            9 => Self::Ping(read(kind, body)?),
            10 => Self::Pong(read(kind, body)?),
            11 => Self::Sessions(read(kind, body)?),
            12 => Self::Replicas(read(kind, body)?),
            13 => Self::Goodbye(read(kind, body)?),
            15 => Self::Compare(read(kind, body)?),
            16 => Self::Rows(read(kind, body)?),
            17 => Self::Repair(read(kind, body)?),
            18 => Self::Paused(read(kind, body)?),
            19 => Self::Filling(read(kind, body)?),
            20 => Self::Revoked(read(kind, body)?),
            _ => return Err(MessageError::Kind(kind)),
        };
        message.check()?;
        Ok(message)
    }

    fn check(&self) -> Result<(), MessageError> {
        let limit = |holds: bool, what| if holds { Ok(()) } else { Err(MessageError::Limit { what }) };
        match self {
            Self::Entries(entries) => {
                limit(entries.rows.len() <= BATCH_ENTRIES, "more than 256 entries in a batch")?;
                for row in &entries.rows {
                    limit(!row.path.is_root(), "an entry for the root")?;
                    limit(row.entry.validate().is_ok(), "an entry that no correct replica makes")?;
                    if let Some(contents) = row.contents {
                        let fits = contents.len() as u64 <= INLINE_BYTES;
                        limit(
                            fits && contents.len() as u64 == row.entry.content.body.size(),
                            "contents of another size",
                        )?;
                    }
                }
                Ok(())
            }
            Self::Request(request) => {
                limit(request.length > 0 && u64::from(request.length) <= BLOCK_BYTES, "a request for more than a block")
            }
            Self::Covers(covers) => limit(covers.left_out.len() <= LIST_ITEMS, "too many replicas"),
            Self::Block(block) => limit(block.bytes.len() as u64 <= BLOCK_BYTES, "more than a block"),
            Self::Sessions(nodes) => limit(nodes.len() <= LIST_ITEMS, "too many sessions"),
            Self::Replicas(replicas) => limit(replicas.len() <= LIST_ITEMS, "too many replicas"),
            Self::Compare(compare) => {
                let ends = compare.parts.iter().map(|part| &part.upto);
                let named = ends.chain([&compare.after]).flatten().all(|path| !path.is_root());
                limit(compare.parts.len() <= PARTS, "more than 16 parts")?;
                limit(named, "a part that ends at the root")
            }
            Self::Rows(Rows { rows, .. }) | Self::Repair(Repair { rows }) => {
                let sound = |(path, entry): &(RelativePath, Entry)| !path.is_root() && entry.validate().is_ok();
                limit(rows.len() <= PART_ROWS, "more than 64 rows of a part")?;
                limit(rows.iter().all(sound), "a row of a part that no correct replica has")
            }
            Self::Revoked(list) => limit(list.len() <= REVOKED_BYTES, "a revocation list that is too long"),
            _ => Ok(()),
        }
    }
}

const NAMES: [&str; 21] = [
    "", "hello", "volume", "entries", "covers", "progress", "request", "block", "refused", "ping", "pong", "sessions",
    "replicas", "goodbye", "", "compare", "rows", "repair", "paused", "filling", "revoked",
];
