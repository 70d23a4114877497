//! Frames: how messages are cut out of the stream that a session decrypts.
//!
//! ```text
//! | body length: u32 | kind: u8 | flags: u8 | volume: u16 | CRC32 of the eight bytes before and the body: u32 | body |
//! ```
//! All numbers are little-endian. TLS protects against attackers; the CRC finds our own mistakes and broken memory.

use crate::limits::BODY_BYTES;
use crate::message::{Message, MessageError};
use std::fmt;

/// Bytes before the body.
pub const HEADER_BYTES: usize = 12;

/// Why bytes are no frame. The peer is to blame; the connection ends.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum FrameError {
    /// The body is longer than any may be.
    TooLong {
        /// What the header says.
        bytes: usize,
    },
    /// The checksum differs.
    Checksum,
    /// Flags that this version doesn't know.
    Flags(u8),
    /// The body isn't a message.
    Message(MessageError),
}

impl fmt::Display for FrameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooLong { bytes } => write!(f, "a frame of {bytes} bytes is longer than {BODY_BYTES}"),
            Self::Checksum => f.write_str("a frame's checksum is wrong"),
            Self::Flags(flags) => write!(f, "a frame has unknown flags {flags:#x}"),
            Self::Message(error) => write!(f, "{error}"),
        }
    }
}

impl std::error::Error for FrameError {}

/// Appends one frame to `out`. `volume` is the sender's number of the volume; 0 where the message is about none.
pub fn encode(message: &Message<'_>, volume: u16, out: &mut Vec<u8>) {
    let start = out.len();
    out.extend_from_slice(&[0; HEADER_BYTES]);
    message.encode_body(out);
    let length = u32::try_from(out.len() - start - HEADER_BYTES).expect("batches are cut far below 4 GiB");
    debug_assert!(length as usize <= BODY_BYTES, "a {} of {length} bytes", message.name());
    out[start..start + 4].copy_from_slice(&length.to_le_bytes());
    out[start + 4] = message.kind();
    out[start + 6..start + 8].copy_from_slice(&volume.to_le_bytes());
    let crc = checksum(&out[start..start + 8], &out[start + HEADER_BYTES..]);
    out[start + 8..start + HEADER_BYTES].copy_from_slice(&crc.to_le_bytes());
}

fn checksum(header: &[u8], body: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(header);
    hasher.update(body);
    hasher.finalize()
}

/// A frame cut from the front of a stream.
#[derive(PartialEq, Debug)]
pub struct Frame<'a> {
    /// The sender's number of the volume.
    pub volume: u16,
    /// What it says.
    pub message: Message<'a>,
    /// How many bytes of the stream it took.
    pub bytes: usize,
}

/// Cuts the first frame off `stream`. `None` when there are too few bytes yet; a stream never holds more than one
/// longest frame before this gives an answer.
pub fn decode(stream: &[u8]) -> Result<Option<Frame<'_>>, FrameError> {
    let Some((header, rest)) = stream.split_first_chunk::<HEADER_BYTES>() else { return Ok(None) };
    let word = |at: usize| u32::from_le_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]]);
    let length = word(0) as usize;
    if length > BODY_BYTES {
        return Err(FrameError::TooLong { bytes: length });
    }
    if header[5] != 0 {
        return Err(FrameError::Flags(header[5]));
    }
    let Some(body) = rest.get(..length) else { return Ok(None) };
    if word(8) != checksum(&header[..8], body) {
        return Err(FrameError::Checksum);
    }
    let message = Message::decode_body(header[4], body).map_err(FrameError::Message)?;
    let volume = u16::from_le_bytes([header[6], header[7]]);
    Ok(Some(Frame { volume, message, bytes: HEADER_BYTES + length }))
}
