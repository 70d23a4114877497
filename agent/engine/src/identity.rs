//! Who this node is: its certificate and key, the mesh's CA, and TLS settings made from them.
//!
//! What could fail in a handshake because of our own files is found here, when they are loaded, with a sentence that
//! names the file.

use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1, UnparsedPublicKey};
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::ServerCertVerifier;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::time_provider::TimeProvider;
use rustls::{CertificateError, ClientConfig, RootCertStore, ServerConfig};
use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use syncmesh_config::{IdentityFiles, NodeName};
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{ASN1Time, FromDer, X509Certificate};

/// The protocol's name in TLS (ALPN, RFC 7301); another major version gets another.
pub const ALPN: &[u8] = b"syncmesh/1";

/// Largest PEM file that is read, in bytes: chains are a few KiB.
const FILE_BYTES: u64 = 256 << 10;
/// Most certificates in the CA's file: one, and more while CAs are being exchanged.
const MOST_CAS: usize = 16;
/// Most certificates in the node's file.
const MOST_CHAIN: usize = 8;
const DAY_SECONDS: u64 = 24 * 3600;

/// A node's proven identity, ready for TLS. It is loaded again when the files change; running sessions keep the old one.
pub struct Identity {
    /// The name that the certificate shows, equal to the configured one.
    pub node: NodeName,
    /// For connections that we open: TLS 1.3, our certificate, only the mesh's CA. The server must show the expected name.
    pub client_config: Arc<ClientConfig>,
    /// For connections that we accept: TLS 1.3, our certificate, clients must have one of the mesh's CA.
    pub server_config: Arc<ServerConfig>,
    /// When the certificate begins; seconds since 1970.
    pub not_before: u64,
    /// When the certificate, or a CA's if that is earlier, ends; seconds since 1970.
    pub not_after: u64,
    /// SHA-256 of each CA's certificate, in lower case hexadecimal.
    pub roots: Vec<String>,
    /// The key of each CA, as its certificate has it.
    keys: Vec<Vec<u8>>,
    clock: Arc<HandshakeClock>,
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Identity({}, until {})", self.node, self.not_after)
    }
}

impl Identity {
    /// Loads the files and checks them against each other, against the configured name `node` and against `now`, in
    /// seconds since 1970.
    ///
    /// # Errors
    /// What is wrong with which file, and what to do.
    pub fn load(files: &IdentityFiles, node: &NodeName, now: u64) -> Result<Self, IdentityError> {
        let cas = certificates(&files.ca, MOST_CAS)?;
        let chain = certificates(&files.certificate, MOST_CHAIN)?;
        let key_pem = read_private(&files.key)?;
        let key = PrivateKeyDer::from_pem_slice(&key_pem).map_err(|error| {
            IdentityError::pem(&files.key, format!("it has no private key that can be read ({error})"))
        })?;

        let (not_before, mut not_after) = validity(&files.certificate, &chain[0], now)?;
        let mut keys = Vec::new();
        let mut roots = RootCertStore::empty();
        for ca in &cas {
            // TLS doesn't look at a root's own validity.
            not_after = not_after.min(validity(&files.ca, ca, now)?.1);
            let parsed = parse(ca).map_err(|why| IdentityError::pem(&files.ca, why))?;
            keys.push(parsed.public_key().subject_public_key.data.to_vec());
            roots.add(ca.clone()).map_err(|error| {
                IdentityError::pem(&files.ca, format!("its certificate can't be used as a CA ({error})"))
            })?;
        }
        let shown =
            peer_node(&chain).map_err(|error| IdentityError::Name { path: files.certificate.clone(), why: error.0 })?;
        if shown != *node {
            let why = format!("it is for \"{shown}\", this node is \"{node}\"");
            return Err(IdentityError::Name { path: files.certificate.clone(), why });
        }

        let fingerprints = cas.iter().map(|ca| fingerprint(ca)).collect();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let roots = Arc::new(roots);
        let server_verifier = WebPkiServerVerifier::builder_with_provider(roots.clone(), provider.clone())
            .build()
            .map_err(|error| IdentityError::pem(&files.ca, format!("it can't be used to verify peers ({error})")))?;
        let client_verifier = WebPkiClientVerifier::builder_with_provider(roots, provider.clone())
            // Hints would tell strangers who our CA is.
            .clear_root_hint_subjects()
            .build()
            .map_err(|error| IdentityError::pem(&files.ca, format!("it can't be used to verify peers ({error})")))?;

        let time = UnixTime::since_unix_epoch(Duration::from_secs(now));
        let refuse = |error| own_chain_error(files, error);
        server_verifier.verify_server_cert(&chain[0], &chain[1..], &server_name(node), &[], time).map_err(refuse)?;
        client_verifier.verify_client_cert(&chain[0], &chain[1..], time).map_err(refuse)?;

        let clock = Arc::new(HandshakeClock(AtomicU64::new(now)));
        let mismatch = |error: rustls::Error| match error {
            rustls::Error::InconsistentKeys(_) => {
                IdentityError::KeyMismatch { certificate: files.certificate.clone(), key: files.key.clone() }
            }
            other => IdentityError::pem(&files.key, format!("its key can't be used ({other})")),
        };
        let tls13 = &[&rustls::version::TLS13];
        let mut client = ClientConfig::builder_with_details(provider.clone(), clock.clone())
            .with_protocol_versions(tls13)
            .expect("the provider has TLS 1.3")
            .with_webpki_verifier(server_verifier)
            .with_client_auth_cert(chain.clone(), key.clone_key())
            .map_err(mismatch)?;
        client.alpn_protocols = vec![ALPN.to_vec()];
        client.resumption = rustls::client::Resumption::disabled();
        // The server has one certificate; its name needn't travel in the clear.
        client.enable_sni = false;
        let mut server = ServerConfig::builder_with_details(provider, clock.clone())
            .with_protocol_versions(tls13)
            .expect("the provider has TLS 1.3")
            .with_client_cert_verifier(client_verifier)
            .with_single_cert(chain, key)
            .map_err(mismatch)?;
        server.alpn_protocols = vec![ALPN.to_vec()];
        server.send_tls13_tickets = 0;
        server.session_storage = Arc::new(rustls::server::NoServerSessionStorage {});
        Ok(Self {
            node: node.clone(),
            roots: fingerprints,
            client_config: Arc::new(client),
            server_config: Arc::new(server),
            not_before,
            not_after,
            keys,
            clock,
        })
    }

    /// Whole days until the identity ends, seen from `now` in seconds since 1970; 0 on the last day and after.
    pub fn days_left(&self, now: u64) -> u64 {
        self.not_after.saturating_sub(now) / DAY_SECONDS
    }

    /// Whether the key of the CA with this fingerprint has made a signature.
    ///
    /// # Errors
    /// It is no CA of this mesh, or hasn't.
    pub fn has_signed(&self, ca: &str, signed: &[u8], signature: &[u8]) -> Result<(), String> {
        let known = self.roots.iter().position(|root| root == ca);
        let known = known.ok_or_else(|| {
            format!(
                "it is signed by a CA that this node doesn't trust (SHA-256 {:.16}…)",
                ca.escape_debug().to_string()
            )
        })?;
        let key = UnparsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, &self.keys[known]);
        key.verify(signed, signature).map_err(|_| "its signature isn't that of the mesh's CA".to_owned())
    }

    /// Sets the time at which handshakes judge certificates; each new session does.
    pub(crate) fn set_now(&self, now: u64) {
        self.clock.0.store(now, Ordering::Relaxed);
    }
}

/// The time at which certificates are judged: that of the latest session's beginning, as time comes from `Io`.
#[derive(Debug)]
struct HandshakeClock(AtomicU64);

impl TimeProvider for HandshakeClock {
    fn current_time(&self) -> Option<UnixTime> {
        Some(UnixTime::since_unix_epoch(Duration::from_secs(self.0.load(Ordering::Relaxed))))
    }
}

/// The node that a certificate chain stands for: the one DNS name of its first certificate. Says nothing of whether the
/// chain is valid; TLS has verified that before.
///
/// # Errors
/// Why the certificate names no node: none or several names, or one that is no node's.
pub fn peer_node(certificates: &[CertificateDer<'_>]) -> Result<NodeName, NoNodeName> {
    let first = certificates.first().ok_or_else(|| NoNodeName("there is no certificate".into()))?;
    let certificate = parse(first).map_err(NoNodeName)?;
    let names = certificate
        .subject_alternative_name()
        .map_err(|error| NoNodeName(format!("its names can't be read ({error})")))?;
    match names.map(|names| &names.value.general_names[..]) {
        Some([GeneralName::DNSName(name)]) => NodeName::new(name).map_err(NoNodeName),
        Some([_]) => Err(NoNodeName("its subject alternative name is no DNS name".into())),
        None | Some([]) => Err(NoNodeName("it has no subject alternative name".into())),
        Some(several) => Err(NoNodeName(format!("it has {} names, a node has one", several.len()))),
    }
}

/// Since when the first certificate of a chain holds, in seconds since 1970.
///
/// # Errors
/// There is none, or it can't be read.
pub fn valid_from(certificates: &[CertificateDer<'_>]) -> Result<u64, NoNodeName> {
    let first = certificates.first().ok_or_else(|| NoNodeName("there is no certificate".into()))?;
    let certificate = parse(first).map_err(NoNodeName)?;
    Ok(seconds(certificate.validity().not_before))
}

fn seconds(time: ASN1Time) -> u64 {
    u64::try_from(time.timestamp()).unwrap_or(0)
}

/// Why a certificate names no node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NoNodeName(pub String);

impl fmt::Display for NoNodeName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for NoNodeName {}

/// The name as TLS takes it.
pub(crate) fn server_name(node: &NodeName) -> ServerName<'static> {
    ServerName::try_from(node.as_str().to_owned()).expect("a node's name is a DNS name")
}

/// Reads a certificate's fields; an error says why it can't be read.
pub(crate) fn parse<'a>(der: &'a CertificateDer<'_>) -> Result<X509Certificate<'a>, String> {
    let (rest, certificate) =
        X509Certificate::from_der(der.as_ref()).map_err(|error| format!("the certificate can't be read ({error})"))?;
    if !rest.is_empty() {
        return Err("the certificate has bytes after its end".into());
    }
    Ok(certificate)
}

/// Reads all certificates of a PEM file, at least one and at most `most`.
pub(crate) fn certificates(path: &Path, most: usize) -> Result<Vec<CertificateDer<'static>>, IdentityError> {
    let mut file = File::open(path).map_err(|error| IdentityError::read(path, error))?;
    let pem = read_bounded(&mut file, path)?;
    let all: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).take(most + 1).collect();
    let all = all.map_err(|error| IdentityError::pem(path, format!("its certificates can't be read ({error})")))?;
    if all.is_empty() {
        return Err(IdentityError::pem(path, "it has no certificate (\"-----BEGIN CERTIFICATE-----\") in it".into()));
    }
    if all.len() > most {
        return Err(IdentityError::pem(path, format!("it has more than {most} certificates")));
    }
    Ok(all)
}

/// Reads a private file; refuses one that anybody but its owner may use.
pub(crate) fn read_private(path: &Path) -> Result<Vec<u8>, IdentityError> {
    // Without NONBLOCK a fifo in its place would hang us. The opened file is judged, so a swap in between gains nothing.
    let mut file = File::options()
        .read(true)
        .custom_flags(rustix::fs::OFlags::NONBLOCK.bits() as i32)
        .open(path)
        .map_err(|error| IdentityError::read(path, error))?;
    let metadata = file.metadata().map_err(|error| IdentityError::read(path, error))?;
    if !metadata.is_file() {
        return Err(IdentityError::pem(path, "it is no regular file".into()));
    }
    let mode = metadata.mode() & 0o7777;
    if mode & 0o077 != 0 {
        return Err(IdentityError::KeyReadable { path: path.to_owned(), mode });
    }
    read_bounded(&mut file, path)
}

fn read_bounded(file: &mut File, path: &Path) -> Result<Vec<u8>, IdentityError> {
    let mut bytes = Vec::new();
    file.take(FILE_BYTES + 1).read_to_end(&mut bytes).map_err(|error| IdentityError::read(path, error))?;
    if bytes.len() as u64 > FILE_BYTES {
        return Err(IdentityError::pem(path, format!("it is larger than {} KiB", FILE_BYTES >> 10)));
    }
    Ok(bytes)
}

/// Gives begin and end of the certificate's validity if `now` lies within it.
fn validity(path: &Path, der: &CertificateDer<'_>, now: u64) -> Result<(u64, u64), IdentityError> {
    let certificate = parse(der).map_err(|why| IdentityError::pem(path, why))?;
    let [begin, end] = [certificate.validity().not_before, certificate.validity().not_after].map(seconds);
    if now < begin {
        return Err(IdentityError::NotYetValid { path: path.to_owned(), not_before: begin, now });
    }
    if now > end {
        return Err(IdentityError::Expired { path: path.to_owned(), not_after: end, now });
    }
    Ok((begin, end))
}

fn own_chain_error(files: &IdentityFiles, error: rustls::Error) -> IdentityError {
    match error {
        rustls::Error::InvalidCertificate(CertificateError::UnknownIssuer | CertificateError::BadSignature) => {
            IdentityError::NotSignedByCa { certificate: files.certificate.clone(), ca: files.ca.clone() }
        }
        other => IdentityError::pem(&files.certificate, format!("peers would refuse it ({other})")),
    }
}

/// What is wrong with this node's own certificate, key or CA.
#[derive(Debug)]
pub enum IdentityError {
    /// A file can't be read.
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file has something else in it than it should.
    Contents {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// The key is open to others than its owner.
    KeyReadable {
        /// The key's file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// The key belongs to another certificate.
    KeyMismatch {
        /// The certificate's file.
        certificate: PathBuf,
        /// The key's file.
        key: PathBuf,
    },
    /// Another CA issued the certificate.
    NotSignedByCa {
        /// The certificate's file.
        certificate: PathBuf,
        /// The CA's file.
        ca: PathBuf,
    },
    /// The certificate shows no node's name, or another node's.
    Name {
        /// The certificate's file.
        path: PathBuf,
        /// What is wrong with its names.
        why: String,
    },
    /// The certificate has ended.
    Expired {
        /// The certificate's file.
        path: PathBuf,
        /// When it ended, seconds since 1970.
        not_after: u64,
        /// This node's time, seconds since 1970.
        now: u64,
    },
    /// The certificate begins in the future.
    NotYetValid {
        /// The certificate's file.
        path: PathBuf,
        /// When it begins, seconds since 1970.
        not_before: u64,
        /// This node's time, seconds since 1970.
        now: u64,
    },
}

impl IdentityError {
    fn read(path: &Path, source: io::Error) -> Self {
        Self::Read { path: path.to_owned(), source }
    }

    fn pem(path: &Path, why: String) -> Self {
        Self::Contents { path: path.to_owned(), why }
    }
}

impl fmt::Display for IdentityError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const ISSUE: &str = "issue one with \"syncmesh-agent ca issue\"";
        match self {
            Self::Read { path, source } => {
                write!(f, "can't read {}: {source}; check the paths under identity, or {ISSUE}", path.display())
            }
            Self::Contents { path, why } => {
                write!(f, "can't use {}: {why}; put the right PEM file there, or {ISSUE}", path.display())
            }
            Self::KeyReadable { path, mode } => write!(
                f,
                "won't use the key {}: others than its owner may use it (mode {mode:04o}); run \"chmod 600 {}\"",
                path.display(),
                path.display()
            ),
            Self::KeyMismatch { certificate, key } => write!(
                f,
                "the key {} doesn't belong to the certificate {}: use the two that were written together",
                key.display(),
                certificate.display()
            ),
            Self::NotSignedByCa { certificate, ca } => write!(
                f,
                "the certificate {} wasn't issued by the CA in {}: use the CA of this mesh, or {ISSUE} and that CA",
                certificate.display(),
                ca.display()
            ),
            Self::Name { path, why } => write!(
                f,
                "the certificate {} doesn't stand for this node: {why}; correct \"node\", or {ISSUE} --node with its name",
                path.display()
            ),
            Self::Expired { path, not_after, now } => write!(
                f,
                "the certificate {} ended {} ago: {ISSUE}, or set this machine's clock if that is wrong",
                path.display(),
                span(now - not_after)
            ),
            Self::NotYetValid { path, not_before, now } => write!(
                f,
                "the certificate {} begins only in {}: set this machine's clock, or {ISSUE}",
                path.display(),
                span(not_before - now)
            ),
        }
    }
}

impl std::error::Error for IdentityError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Read { source, .. } => Some(source),
            _ => None,
        }
    }
}

pub(crate) fn fingerprint(certificate: &[u8]) -> String {
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, certificate);
    digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Seconds in words.
fn span(seconds: u64) -> String {
    match seconds {
        0..120 => format!("{seconds} seconds"),
        120..7200 => format!("{} minutes", seconds / 60),
        7200..172_800 => format!("{} hours", seconds / 3600),
        _ => format!("{} days", seconds / DAY_SECONDS),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ca;
    use rcgen::{CertificateParams, Issuer, KeyPair, SanType};
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    const DAY: u64 = DAY_SECONDS;
    const NOW: u64 = 1_735_689_600;

    fn name(text: &str) -> NodeName {
        NodeName::new(text).unwrap()
    }

    struct Case {
        dir: tempfile::TempDir,
        files: IdentityFiles,
    }

    impl Case {
        fn new() -> Self {
            let dir = tempfile::tempdir().unwrap();
            ca::create(dir.path(), NOW).unwrap();
            ca::issue(dir.path(), &name("a"), dir.path(), 30, NOW).unwrap();
            let [ca, certificate, key] = ["ca.pem", "a.pem", "a.key"].map(|file| dir.path().join(file));
            Self { dir, files: IdentityFiles { ca, certificate, key, revoked: None } }
        }

        fn error(&self, node: &str, now: u64) -> String {
            Identity::load(&self.files, &name(node), now).unwrap_err().to_string()
        }

        /// Replaces the certificate by one that our CA signs over other names.
        fn with_names(&self, names: Vec<SanType>) {
            let key = KeyPair::from_pem(&fs::read_to_string(self.dir.path().join("ca.key")).unwrap()).unwrap();
            let issuer = Issuer::from_ca_cert_pem(&fs::read_to_string(&self.files.ca).unwrap(), key).unwrap();
            let mut params = CertificateParams::default();
            params.subject_alt_names = names;
            params.not_before = rcgen::date_time_ymd(2024, 1, 1);
            params.not_after = rcgen::date_time_ymd(2030, 1, 1);
            let key = KeyPair::from_pem(&fs::read_to_string(&self.files.key).unwrap()).unwrap();
            fs::write(&self.files.certificate, params.signed_by(&key, &issuer).unwrap().pem()).unwrap();
        }
    }

    fn dns(name: &str) -> SanType {
        SanType::DnsName(name.try_into().unwrap())
    }

    #[test]
    fn an_issued_identity_loads_and_counts_its_days() {
        let case = Case::new();
        let identity = Identity::load(&case.files, &name("a"), NOW).unwrap();
        assert_eq!(identity.not_after, NOW + 30 * DAY);
        assert_eq!(identity.days_left(NOW), 30);
        assert_eq!(identity.days_left(NOW + 30 * DAY - 1), 0);
        assert_eq!(identity.days_left(NOW + 99 * DAY), 0);
    }

    #[test]
    fn a_missing_file_is_named() {
        for missing in ["ca.pem", "a.pem", "a.key"] {
            let case = Case::new();
            fs::remove_file(case.dir.path().join(missing)).unwrap();
            let error = case.error("a", NOW);
            assert!(error.contains(missing) && error.starts_with("can't read"), "{error}");
        }
    }

    #[test]
    fn a_file_with_something_else_in_it_is_named() {
        for (file, contents) in [
            ("ca.pem", "no PEM"),
            ("a.pem", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"),
            ("a.pem", "-----BEGIN CERTIFICATE-----\nMII"),
            ("a.key", "no PEM"),
        ] {
            let case = Case::new();
            fs::write(case.dir.path().join(file), contents).unwrap();
            let error = case.error("a", NOW);
            assert!(error.contains(file) && error.starts_with("can't use"), "{error}");
        }
        let case = Case::new();
        fs::write(&case.files.ca, "x".repeat(300 << 10)).unwrap();
        assert!(case.error("a", NOW).contains("larger than 256 KiB"));
    }

    #[test]
    fn a_key_that_others_may_read_is_refused() {
        for mode in [0o640, 0o604, 0o610, 0o666] {
            let case = Case::new();
            fs::set_permissions(&case.files.key, fs::Permissions::from_mode(mode)).unwrap();
            let error = case.error("a", NOW);
            assert!(error.contains("chmod 600") && error.contains(&format!("{mode:04o}")), "{error}");
        }
    }

    #[test]
    fn the_key_of_another_certificate_is_refused() {
        let case = Case::new();
        ca::issue(case.dir.path(), &name("b"), case.dir.path(), 30, NOW).unwrap();
        fs::copy(case.dir.path().join("b.key"), &case.files.key).unwrap();
        assert!(case.error("a", NOW).contains("doesn't belong to the certificate"));
    }

    #[test]
    fn a_certificate_of_another_ca_is_refused() {
        let (case, other) = (Case::new(), Case::new());
        fs::copy(&other.files.ca, &case.files.ca).unwrap();
        let error = case.error("a", NOW);
        assert!(error.contains("wasn't issued by the CA"), "{error}");
    }

    #[test]
    fn validity_is_checked_against_the_given_time() {
        let case = Case::new();
        assert!(case.error("a", NOW + 31 * DAY).contains("ended 24 hours ago"), "{}", case.error("a", NOW + 31 * DAY));
        assert!(case.error("a", NOW - DAY).contains("begins only in 23 hours"));
        assert!(Identity::load(&case.files, &name("a"), NOW - 3600).is_ok());
        assert!(Identity::load(&case.files, &name("a"), NOW + 30 * DAY).is_ok());
    }

    #[test]
    fn the_certificate_must_stand_for_this_node_alone() {
        let case = Case::new();
        assert!(case.error("b", NOW).contains("it is for \"a\", this node is \"b\""));
        for (names, part) in [
            (vec![], "no subject alternative name"),
            (vec![dns("a"), dns("b")], "it has 2 names"),
            (vec![SanType::IpAddress([10, 0, 0, 1].into())], "no DNS name"),
            (vec![dns("*.a")], "is no node's name"),
        ] {
            case.with_names(names);
            let error = case.error("a", NOW);
            assert!(error.contains(part), "{error}");
        }
    }

    #[test]
    fn a_certificate_without_the_right_purposes_is_refused() {
        let case = Case::new();
        fs::copy(case.dir.path().join("ca.key"), &case.files.key).unwrap();
        fs::copy(&case.files.ca, &case.files.certificate).unwrap();
        assert!(Identity::load(&case.files, &name("a"), NOW).is_err());
    }
}
