//! The mesh's CA: made once, kept off-line, issues an identity to each node.
//!
//! Files appear whole or not at all, nothing is ever overwritten, and keys are never readable by others, not even for a
//! moment.

use crate::identity::{self, IdentityError};
use crate::revoked::Revoked;
use rcgen::{
    BasicConstraints, Certificate, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, SigningKey,
};
use rustls::pki_types::CertificateDer;
use std::collections::BTreeMap;
use std::fmt;
use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;
use syncmesh_config::NodeName;
use syncmesh_protocol::limits::REVOKED_NODES;

const DAY_SECONDS: u64 = 24 * 3600;
/// How long a CA is valid: ten years.
const CA_DAYS: u32 = 3653;
/// Certificates begin this much before they are made, in seconds, for nodes whose clocks are behind.
const BACKDATE_SECONDS: u64 = 3600;
/// Mode of certificates, which are public.
const PUBLIC: u32 = 0o644;
/// Name of the revocation list in the CA's directory.
const REVOKED: &str = "revoked";
/// Mode of keys.
const PRIVATE: u32 = 0o600;

/// What `create` wrote.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Created {
    /// The CA's certificate, to be given to every node.
    pub certificate: PathBuf,
    /// The CA's key, to be kept where no node can read it.
    pub key: PathBuf,
    /// When the CA ends, seconds since 1970.
    pub not_after: u64,
}

/// What `issue` wrote.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Issued {
    /// The CA's certificate, a copy, or what was there already.
    pub ca: PathBuf,
    /// The node's certificate.
    pub certificate: PathBuf,
    /// The node's key.
    pub key: PathBuf,
    /// When the identity ends, seconds since 1970.
    pub not_after: u64,
}

/// What `revoke` wrote.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    /// The revocation list, to be given to the nodes.
    pub list: PathBuf,
    /// How many nodes are on it.
    pub nodes: usize,
}

/// Makes a CA of ten years in the directory `out` (`ca.pem`, `ca.key`), which is made where it is missing. `now` is in seconds
/// since 1970.
///
/// # Errors
/// A file of that name is there already, or can't be written. Then none of both is left behind.
pub fn create(out: &Path, now: u64) -> Result<Created, CaError> {
    let [certificate_path, key_path] = ["ca.pem", "ca.key"].map(|name| out.join(name));
    refuse_existing(&[&certificate_path, &key_path])?;

    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(CaError::crypto)?;
    let mut params = CertificateParams::default();
    // Eight random digits, so that two meshes' CAs are told apart: the end of a fresh public key is random.
    let random: String = key.public_key_raw().iter().rev().take(4).map(|byte| format!("{byte:02x}")).collect();
    params.distinguished_name.remove(DnType::CommonName);
    params.distinguished_name.push(DnType::CommonName, format!("syncmesh CA {random}"));
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let not_after = set_validity(&mut params, now.saturating_sub(BACKDATE_SECONDS), now, CA_DAYS);
    let certificate = params.self_signed(&key).map_err(CaError::crypto)?;

    write_all(
        out,
        &[
            New { path: &key_path, contents: key.serialize_pem(), mode: PRIVATE },
            New { path: &certificate_path, contents: certificate.pem(), mode: PUBLIC },
        ],
    )?;
    Ok(Created { certificate: certificate_path, key: key_path, not_after })
}

/// Issues an identity for `node`, valid for `days` (1 to 3650), with the CA in `ca_dir`: writes `ca.pem`, `NODE.pem` and
/// `NODE.key` to the directory `out`, which is made where it is missing. The same `ca.pem` may be there already. `now` is in seconds since
/// 1970.
///
/// # Errors
/// The CA can't be read or used or ends before, a file is there already, or can't be written. Then nothing new is left behind.
pub fn issue(ca_dir: &Path, node: &NodeName, out: &Path, days: u32, now: u64) -> Result<Issued, CaError> {
    if !(1..=3650).contains(&days) {
        return Err(CaError::Days { days, most: 3650 });
    }
    if node.as_str() == "ca" {
        return Err(CaError::NodeCalledCa);
    }
    let ca = load(ca_dir)?;
    let ca_path = out.join("ca.pem");
    let [certificate_path, key_path] = ["pem", "key"].map(|kind| out.join(format!("{node}.{kind}")));
    refuse_existing(&[&certificate_path, &key_path])?;
    let ca_is_there = match fs::read(&ca_path) {
        Ok(there) if there == ca.pem => true,
        Ok(_) => return Err(CaError::OtherCa { path: ca_path, ca_dir: ca_dir.to_owned() }),
        Err(error) if error.kind() == io::ErrorKind::NotFound => false,
        Err(error) => return Err(CaError::io("read", &ca_path, error)),
    };

    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(CaError::crypto)?;
    let mut params = CertificateParams::new(vec![node.as_str().to_owned()]).map_err(CaError::crypto)?;
    params.distinguished_name.remove(DnType::CommonName);
    // A common name has at most 64 characters (RFC 5280, appendix A.1); the name that counts is the SAN.
    params.distinguished_name.push(DnType::CommonName, node.as_str().chars().take(64).collect::<String>());
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    params.use_authority_key_identifier_extension = true;
    let revoked = revoked(ca_dir, &ca)?.and_then(|list| list.nodes().get(node.as_str()).copied());
    // Who was revoked gets one that counts at once.
    let begin = now.saturating_sub(BACKDATE_SECONDS).max(revoked.unwrap_or(0).min(now));
    let not_after = set_validity(&mut params, begin, now, days);
    if now >= ca.not_after || not_after > ca.not_after {
        let most = u32::try_from(ca.not_after.saturating_sub(now) / DAY_SECONDS).unwrap_or(u32::MAX);
        return Err(CaError::Days { days, most });
    }
    let certificate: Certificate = params.signed_by(&key, &ca.issuer).map_err(CaError::crypto)?;

    let mut files = vec![
        New { path: &key_path, contents: key.serialize_pem(), mode: PRIVATE },
        New { path: &certificate_path, contents: certificate.pem(), mode: PUBLIC },
    ];
    if !ca_is_there {
        let contents = String::from_utf8(ca.pem)
            .map_err(|_| CaError::BadCa { path: ca_dir.join("ca.pem"), why: "it has bytes that are no text".into() })?;
        files.push(New { path: &ca_path, contents, mode: PUBLIC });
    }
    write_all(out, &files)?;
    Ok(Issued { ca: ca_path, certificate: certificate_path, key: key_path, not_after })
}

/// Revokes all certificates of a node that were issued before `now`, in seconds since 1970: puts it on the list `revoked` in the directory of
/// the CA, which is signed with its key. The list is made where there is none.
///
/// # Errors
/// CA or list can't be read or written, or the list is full. Then nothing changes.
pub fn revoke(ca_dir: &Path, node: &NodeName, now: u64) -> Result<Listed, CaError> {
    let ca = load(ca_dir)?;
    let kept = revoked(ca_dir, &ca)?;
    let mut nodes: BTreeMap<String, u64> = kept.as_ref().map(|list| list.nodes().clone()).unwrap_or_default();
    nodes.insert(node.to_string(), now);
    let path = ca_dir.join(REVOKED);
    if nodes.len() > REVOKED_NODES {
        let why =
            format!("it has {REVOKED_NODES} nodes, and takes no more. Change the CA, and nobody has to be on a list");
        return Err(CaError::BadList { path, why });
    }
    // Also where a clock was ahead once.
    let number = now.max(kept.map_or(0, |list| list.number() + 1));
    let list = Revoked::write(number, &ca.fingerprint, &nodes, |signed| ca.issuer.key().sign(signed));
    let list = list.map_err(CaError::crypto)?;
    let draft = ca_dir.join(format!(".{REVOKED}.{}.new", std::process::id()));
    let written = File::create(&draft).and_then(|mut out| {
        out.write_all(list.text().as_bytes())?;
        out.sync_all()?;
        fs::rename(&draft, &path)?;
        File::open(ca_dir)?.sync_all()
    });
    written.map_err(|error| CaError::io("write", &path, error)).inspect_err(|_| drop(fs::remove_file(&draft)))?;
    Ok(Listed { list: path, nodes: nodes.len() })
}

/// The CA's own revocation list, if it has one.
fn revoked(ca_dir: &Path, ca: &Ca) -> Result<Option<Revoked>, CaError> {
    let path = ca_dir.join(REVOKED);
    let bad = |why: String| CaError::BadList { path: path.clone(), why };
    let text = match fs::read_to_string(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        text => text.map_err(|error| CaError::io("read", &path, error))?,
    };
    let list = Revoked::read(&text).map_err(|why| bad(why.to_string()))?;
    if list.authority() != ca.fingerprint {
        return Err(bad("another CA has signed it".into()));
    }
    Ok(Some(list))
}

/// Sets the validity to from `begin` to `days` after `now`, all in whole seconds; gives its end.
fn set_validity(params: &mut CertificateParams, begin: u64, now: u64, days: u32) -> u64 {
    let not_after = now + u64::from(days) * DAY_SECONDS;
    let epoch = rcgen::date_time_ymd(1970, 1, 1);
    params.not_before = epoch + Duration::from_secs(begin);
    params.not_after = epoch + Duration::from_secs(not_after);
    not_after
}

struct Ca {
    pem: Vec<u8>,
    fingerprint: String,
    issuer: Issuer<'static, KeyPair>,
    not_after: u64,
}

fn load(ca_dir: &Path) -> Result<Ca, CaError> {
    let [certificate_path, key_path] = ["ca.pem", "ca.key"].map(|name| ca_dir.join(name));
    let bad = |path: &Path, why: String| CaError::BadCa { path: path.to_owned(), why };
    let pem = fs::read(&certificate_path).map_err(|error| CaError::io("read", &certificate_path, error))?;
    let certificates = identity::certificates(&certificate_path, 1).map_err(CaError::Identity)?;
    let der: &CertificateDer<'static> = &certificates[0];
    let certificate = identity::parse(der).map_err(|why| bad(&certificate_path, why))?;
    if !certificate.is_ca() {
        return Err(bad(&certificate_path, "it is no CA's certificate".into()));
    }
    let key_pem = identity::read_private(&key_path).map_err(CaError::Identity)?;
    let key = std::str::from_utf8(&key_pem)
        .ok()
        .and_then(|pem| KeyPair::from_pem(pem).ok())
        .ok_or_else(|| bad(&key_path, "it has no private key that can be read".into()))?;
    if certificate.public_key().subject_public_key.data.as_ref() != key.public_key_raw() {
        return Err(bad(&key_path, format!("its key doesn't belong to {}", certificate_path.display())));
    }
    let not_after = u64::try_from(certificate.validity().not_after.timestamp()).unwrap_or(0);
    let issuer = Issuer::from_ca_cert_der(der, key).map_err(|error| bad(&certificate_path, error.to_string()))?;
    Ok(Ca { pem, fingerprint: identity::fingerprint(der), issuer, not_after })
}

struct New<'a> {
    path: &'a Path,
    contents: String,
    mode: u32,
}

/// The early answer; `link` below is the sure one.
fn refuse_existing(paths: &[&Path]) -> Result<(), CaError> {
    for path in paths {
        match fs::symlink_metadata(path) {
            Ok(_) => return Err(CaError::Exists((*path).to_owned())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(CaError::io("look for", path, error)),
        }
    }
    Ok(())
}

/// Writes all files whole and durably, or none.
fn write_all(directory: &Path, files: &[New<'_>]) -> Result<(), CaError> {
    fs::create_dir_all(directory).map_err(|error| CaError::io("make the directory", directory, error))?;
    let mut placed: Vec<&Path> = Vec::new();
    let result = files.iter().try_for_each(|file| {
        place(directory, file)?;
        placed.push(file.path);
        Ok(())
    });
    let result = result.and_then(|()| {
        let sync = File::open(directory).and_then(|directory| directory.sync_all());
        sync.map_err(|error| CaError::io("sync the directory", directory, error))
    });
    if result.is_err() {
        for path in placed {
            // The first error is the one to tell; what can't be removed can't be written either.
            let _ = fs::remove_file(path);
        }
    }
    result
}

/// Writes beside the place, then links into it: a link never replaces, and the file is whole when it gets its name.
fn place(directory: &Path, file: &New<'_>) -> Result<(), CaError> {
    let name = file.path.file_name().expect("made from a name").to_string_lossy();
    let draft = directory.join(format!(".{name}.{}.new", std::process::id()));
    let written = File::options()
        .write(true)
        .create_new(true)
        .mode(file.mode)
        .open(&draft)
        .map_err(|error| CaError::io("create", &draft, error))
        .and_then(|mut out| {
            let write = out.write_all(file.contents.as_bytes()).and_then(|()| out.sync_all());
            write
                .map_err(|error| CaError::io("write", &draft, error))
                .and_then(|()| {
                    fs::hard_link(&draft, file.path).map_err(|error| match error.kind() {
                        io::ErrorKind::AlreadyExists => CaError::Exists(file.path.to_owned()),
                        _ => CaError::io("create", file.path, error),
                    })
                })
                .inspect_err(|_| drop(fs::remove_file(&draft)))
        });
    written?;
    fs::remove_file(&draft)
        .map_err(|error| CaError::io("remove", &draft, error))
        .inspect_err(|_| drop(fs::remove_file(file.path)))
}

/// Why a CA or an identity could not be made.
#[derive(Debug)]
pub enum CaError {
    /// A file of that name is there; nothing is ever overwritten.
    Exists(PathBuf),
    /// The directory has another mesh's CA in it.
    OtherCa {
        /// The other CA.
        path: PathBuf,
        /// The directory of the CA that was to be used.
        ca_dir: PathBuf,
    },
    /// The CA can't be used.
    BadCa {
        /// The file at fault.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// The revocation list can't be used, or takes no more.
    BadList {
        /// The list.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// A certificate or key can't be read.
    Identity(IdentityError),
    /// So many days are not possible.
    Days {
        /// What was asked for.
        days: u32,
        /// What is possible.
        most: u32,
    },
    /// The node's files would have the names of the CA's.
    NodeCalledCa,
    /// The file system refused.
    Io {
        /// What was tried.
        tried: &'static str,
        /// On what.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// Key or certificate could not be made.
    Crypto(String),
}

impl CaError {
    fn io(tried: &'static str, path: &Path, source: io::Error) -> Self {
        Self::Io { tried, path: path.to_owned(), source }
    }

    fn crypto(error: rcgen::Error) -> Self {
        Self::Crypto(error.to_string())
    }
}

impl fmt::Display for CaError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exists(path) => write!(
                f,
                "{} is there already and is not overwritten: write to another directory, or move it away first",
                path.display()
            ),
            Self::OtherCa { path, ca_dir } => write!(
                f,
                "{} is another CA than the one in {}: write to another directory, or use that CA",
                path.display(),
                ca_dir.display()
            ),
            Self::BadCa { path, why } => write!(
                f,
                "can't issue with {}: {why}; give the directory that \"syncmesh-agent ca create\" wrote",
                path.display()
            ),
            Self::BadList { path, why } => write!(
                f,
                "can't go on from the revocation list {}: {why}; a list that begins anew would let in again who is on this one",
                path.display()
            ),
            Self::Identity(error) => write!(f, "can't issue with this CA: {error}"),
            Self::Days { most: 0, .. } => f.write_str(
                "the CA has ended: make a new one with \"syncmesh-agent ca create\" and issue all identities again",
            ),
            Self::Days { days, most } => {
                write!(f, "an identity can't be valid for {days} days here: ask for 1 to {most} with --days")
            }
            Self::NodeCalledCa => {
                f.write_str("a node called \"ca\" would have the same files as the CA: give the node another name")
            }
            Self::Io { tried, path, source } => {
                write!(f, "can't {tried} {}: {source}; check the directory, its owner and its space", path.display())
            }
            Self::Crypto(why) => write!(f, "can't make the key or certificate: {why}; please report it"),
        }
    }
}

impl std::error::Error for CaError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Io { source, .. } => Some(source),
            Self::Identity(error) => Some(error),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    const NOW: u64 = 1_735_689_600;

    fn name(text: &str) -> NodeName {
        NodeName::new(text).unwrap()
    }

    fn names(dir: &Path) -> Vec<String> {
        let mut names: Vec<String> =
            fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o777
    }

    #[test]
    fn a_ca_lasts_ten_years_and_is_called_syncmesh() {
        let dir = tempfile::tempdir().unwrap();
        let out = dir.path().join("made/for/it");
        let created = create(&out, NOW).unwrap();
        assert_eq!(names(&out), ["ca.key", "ca.pem"]);
        assert_eq!((mode(&created.key), created.not_after), (0o600, NOW + 3653 * DAY_SECONDS));
        let certificates = identity::certificates(&created.certificate, 1).unwrap();
        let certificate = identity::parse(&certificates[0]).unwrap();
        let subject = certificate.subject().to_string();
        let digits = subject.strip_prefix("CN=syncmesh CA ").unwrap();
        assert!(digits.len() == 8 && digits.bytes().all(|byte| byte.is_ascii_hexdigit()), "{subject}");
        assert!(certificate.is_ca());
        let usage = certificate.key_usage().unwrap().unwrap().value;
        assert!(usage.key_cert_sign() && usage.crl_sign() && !usage.digital_signature());
        assert!(certificate.name_constraints().unwrap().is_none());
    }

    #[test]
    fn an_identity_names_its_node_and_both_purposes() {
        let dir = tempfile::tempdir().unwrap();
        let out = dir.path().join("a");
        create(dir.path(), NOW).unwrap();
        let issued = issue(dir.path(), &name("a.site"), &out, 365, NOW).unwrap();
        assert_eq!(names(&out), ["a.site.key", "a.site.pem", "ca.pem"]);
        assert_eq!((mode(&issued.key), issued.not_after), (0o600, NOW + 365 * DAY_SECONDS));
        let certificates = identity::certificates(&issued.certificate, 1).unwrap();
        assert_eq!(identity::peer_node(&certificates), Ok(name("a.site")));
        let certificate = identity::parse(&certificates[0]).unwrap();
        let purposes = certificate.extended_key_usage().unwrap().unwrap().value;
        assert!(purposes.server_auth && purposes.client_auth && !purposes.any && !certificate.is_ca());
    }

    #[test]
    fn a_long_node_name_is_issued_too() {
        let dir = tempfile::tempdir().unwrap();
        create(dir.path(), NOW).unwrap();
        // As long as a file name with its ending and the draft's marks can be.
        let long = format!("{0}.{0}.{0}", "n".repeat(63));
        issue(dir.path(), &name(&long), dir.path(), 1, NOW).unwrap();
    }

    #[test]
    fn nothing_is_ever_overwritten() {
        let dir = tempfile::tempdir().unwrap();
        for there in ["ca.pem", "ca.key"] {
            let out = dir.path().join(there);
            fs::create_dir(&out).unwrap();
            fs::write(out.join(there), "mine").unwrap();
            let error = create(&out, NOW).unwrap_err().to_string();
            assert!(error.contains(there) && error.contains("not overwritten"), "{error}");
            assert_eq!(fs::read_to_string(out.join(there)).unwrap(), "mine");
            assert_eq!(names(&out), [there]);
        }
        let ca = dir.path().join("ca");
        create(&ca, NOW).unwrap();
        for there in ["a.pem", "a.key", "ca.pem"] {
            let out = dir.path().join(format!("out-{there}"));
            fs::create_dir(&out).unwrap();
            fs::write(out.join(there), "mine").unwrap();
            let error = issue(&ca, &name("a"), &out, 9, NOW).unwrap_err().to_string();
            assert!(error.contains(there), "{error}");
            assert_eq!(names(&out), [there]);
        }
        assert!(matches!(create(&ca, NOW), Err(CaError::Exists(_))));
    }

    #[test]
    fn a_second_node_may_share_the_directory() {
        let dir = tempfile::tempdir().unwrap();
        create(dir.path(), NOW).unwrap();
        issue(dir.path(), &name("a"), dir.path(), 9, NOW).unwrap();
        issue(dir.path(), &name("b"), dir.path(), 9, NOW).unwrap();
        assert_eq!(names(dir.path()), ["a.key", "a.pem", "b.key", "b.pem", "ca.key", "ca.pem"]);
        assert!(matches!(issue(dir.path(), &name("a"), dir.path(), 9, NOW), Err(CaError::Exists(_))));
    }

    #[test]
    fn what_fails_halfway_leaves_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let [first, blocked] = ["first", "blocked"].map(|name| dir.path().join(name));
        fs::create_dir(&blocked).unwrap();
        let files = [&first, &blocked].map(|path| New { path, contents: "x".into(), mode: PRIVATE });
        assert!(matches!(write_all(dir.path(), &files), Err(CaError::Exists(path)) if path == blocked));
        assert_eq!(names(dir.path()), ["blocked"]);
    }

    #[test]
    fn who_is_revoked_is_on_a_signed_list_and_gets_an_identity_that_counts() {
        let dir = tempfile::tempdir().unwrap();
        create(dir.path(), NOW).unwrap();
        let certificate = |out: &str, now| {
            let issued = issue(dir.path(), &name("a"), &dir.path().join(out), 9, now).unwrap();
            let files = syncmesh_config::IdentityFiles {
                ca: issued.ca,
                certificate: issued.certificate,
                key: issued.key,
                revoked: None,
            };
            crate::identity::Identity::load(&files, &name("a"), now).unwrap()
        };
        let old = certificate("old", NOW);
        revoke(dir.path(), &name("b"), NOW + 5).unwrap();
        let listed = revoke(dir.path(), &name("a"), NOW + 5).unwrap();
        assert_eq!((listed.list.clone(), listed.nodes), (dir.path().join("revoked"), 2));
        let list = Revoked::read(&fs::read_to_string(&listed.list).unwrap()).unwrap();
        assert_eq!(list.number(), NOW + 6, "above the one before, although no time has passed");
        let new = certificate("new", NOW + 7);
        assert!(list.revokes("a", old.not_before) && !list.revokes("a", new.not_before));
        let (signed, signature) = list.signed();
        assert_eq!(old.has_signed(list.authority(), signed, signature), Ok(()));
        assert!(old.has_signed("ab12", signed, signature).unwrap_err().contains("doesn't trust"));
        assert!(old.has_signed(list.authority(), &signed[1..], signature).unwrap_err().contains("isn't that"));
        assert_eq!(names(dir.path()), ["ca.key", "ca.pem", "new", "old", "revoked"]);
    }

    #[test]
    fn a_list_that_cant_be_read_isnt_begun_anew() {
        let dir = tempfile::tempdir().unwrap();
        let [ca, other] = ["ca", "other"].map(|name| dir.path().join(name));
        create(&ca, NOW).unwrap();
        create(&other, NOW).unwrap();
        let list = revoke(&other, &name("a"), NOW).unwrap().list;
        for text in ["nonsense".to_owned(), fs::read_to_string(list).unwrap()] {
            fs::write(ca.join("revoked"), &text).unwrap();
            let error = revoke(&ca, &name("a"), NOW).unwrap_err().to_string();
            assert!(error.contains("revoked: ") && error.contains("begins anew"), "{error}");
            assert_eq!(fs::read_to_string(ca.join("revoked")).unwrap(), text);
        }
    }

    #[test]
    fn a_ca_that_cannot_issue_says_why() {
        let dir = tempfile::tempdir().unwrap();
        let [ca, other] = ["ca", "other"].map(|name| dir.path().join(name));
        let out = dir.path().join("out");
        let error = |days, now| issue(&ca, &name("a"), &out, days, now).unwrap_err().to_string();
        assert!(error(9, NOW).contains("ca.pem"));
        create(&ca, NOW).unwrap();
        create(&other, NOW).unwrap();
        assert!(error(0, NOW).contains("1 to 3650"));
        assert!(error(3651, NOW).contains("1 to 3650"));
        assert!(error(365, NOW + 3600 * DAY_SECONDS).contains("1 to 53"));
        assert!(error(1, NOW + 3653 * DAY_SECONDS).contains("has ended"));
        assert!(issue(&ca, &name("ca"), &out, 9, NOW).unwrap_err().to_string().contains("another name"));
        fs::set_permissions(ca.join("ca.key"), fs::Permissions::from_mode(0o644)).unwrap();
        assert!(error(9, NOW).contains("chmod 600"));
        fs::remove_file(ca.join("ca.key")).unwrap();
        fs::copy(other.join("ca.key"), ca.join("ca.key")).unwrap();
        assert!(error(9, NOW).contains("doesn't belong to"));
        assert!(!out.exists());
    }
}
