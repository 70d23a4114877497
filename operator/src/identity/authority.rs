//! An authority: a root certificate and its key, by which agents' certificates are signed.

use super::{AUTHORITY_BACKDATE, AUTHORITY_LIFE, BACKDATE};
use aws_lc_rs::digest;
use k8s_openapi::jiff::Timestamp;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
    PKCS_ECDSA_P256_SHA256, PublicKey, SerialNumber, SigningKey,
};
use std::fmt;
use std::time::Duration;
use x509_parser::prelude::{FromDer, X509Certificate, parse_x509_pem};

/// A root certificate, which is public.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Root {
    /// As agents read it.
    pub pem: String,
    /// SHA-256 of its DER, in lower case hexadecimal: what agents say that they trust.
    pub fingerprint: String,
    /// When it ends.
    pub not_after: Timestamp,
}

/// A root certificate with its key.
#[derive(Clone, PartialEq, Eq)]
pub struct Authority {
    /// The certificate.
    pub root: Root,
    /// The key, which no error and no log shows.
    key: String,
}

/// What an agent is given.
#[derive(Clone, Debug)]
pub struct Leaf<'a> {
    /// The one name in it.
    pub node: &'a str,
    /// The key that it is for.
    pub key: &'a PublicKey,
    /// It begins no earlier than this: what began before was revoked.
    pub not_before: Option<Timestamp>,
    /// How long it is to hold; it never outlives its authority.
    pub life: Duration,
    /// The uid of the request, from which its serial number follows: asked twice, it is the same one.
    pub request: &'a str,
}

/// Why a root, a key or a certificate can't be read or made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unusable(String);

impl Unusable {
    /// For this reason.
    pub fn new(why: impl fmt::Display) -> Self {
        Self(why.to_string())
    }
}

impl fmt::Display for Unusable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Root {
    /// Reads one.
    ///
    /// # Errors
    /// It is no certificate of an authority.
    pub fn read(pem: &str) -> Result<Self, Unusable> {
        let (_, block) = parse_x509_pem(pem.as_bytes()).map_err(|error| Unusable(format!("no PEM: {error}")))?;
        let (_, certificate) =
            X509Certificate::from_der(&block.contents).map_err(|error| Unusable(format!("no certificate: {error}")))?;
        if !certificate.is_ca() {
            return Err(Unusable("the certificate is no authority's".into()));
        }
        let not_after = Timestamp::from_second(certificate.validity().not_after.timestamp()).map_err(Unusable::new)?;
        Ok(Self { pem: pem.to_owned(), fingerprint: hex(&sha256(&block.contents)), not_after })
    }
}

impl Authority {
    /// Makes one that begins now.
    ///
    /// # Errors
    /// Keys can't be made here.
    pub fn make(now: Timestamp) -> Result<Self, Unusable> {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(Unusable::new)?;
        let mut params = CertificateParams::default();
        // Eight random digits, so that authorities are told apart: the end of a fresh public key is random.
        let raw = key.public_key_raw();
        let name = format!("syncmesh CA {}", hex(raw.get(raw.len().saturating_sub(4)..).unwrap_or_default()));
        params.distinguished_name.remove(DnType::CommonName);
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        set_validity(&mut params, now, AUTHORITY_BACKDATE, AUTHORITY_LIFE);
        let certificate = params.self_signed(&key).map_err(Unusable::new)?;
        Ok(Self { root: Root::read(&certificate.pem())?, key: key.serialize_pem() })
    }

    /// Reads one.
    ///
    /// # Errors
    /// Certificate or key can't be read, or don't belong together.
    pub fn read(certificate: &str, key: &str) -> Result<Self, Unusable> {
        let root = Root::read(certificate)?;
        let pair = KeyPair::from_pem(key).map_err(|error| Unusable(format!("no private key: {error}")))?;
        let (_, block) = parse_x509_pem(certificate.as_bytes()).map_err(Unusable::new)?;
        let (_, parsed) = X509Certificate::from_der(&block.contents).map_err(Unusable::new)?;
        if parsed.public_key().subject_public_key.data.as_ref() != pair.public_key_raw() {
            return Err(Unusable("the key doesn't belong to the certificate".into()));
        }
        Ok(Self { root, key: key.to_owned() })
    }

    /// The key, for the Secret and nothing else.
    pub(super) fn key(&self) -> &str {
        &self.key
    }

    /// Signs an agent's certificate. Of what was asked for it has the key and nothing else.
    ///
    /// # Errors
    /// The key can't be used.
    pub fn sign(&self, leaf: &Leaf<'_>, now: Timestamp) -> Result<String, Unusable> {
        let key = KeyPair::from_pem(&self.key).map_err(Unusable::new)?;
        let issuer = Issuer::from_ca_cert_pem(&self.root.pem, key).map_err(Unusable::new)?;
        let mut params = CertificateParams::new(vec![leaf.node.to_owned()]).map_err(Unusable::new)?;
        params.distinguished_name.remove(DnType::CommonName);
        // A common name has at most 64 characters (RFC 5280, appendix A.1); the name that counts is the SAN.
        params.distinguished_name.push(DnType::CommonName, leaf.node.chars().take(64).collect::<String>());
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        params.use_authority_key_identifier_extension = true;
        params.serial_number = Some(serial(leaf.request));
        let left = self.root.not_after.as_second().saturating_sub(now.as_second());
        let left = Duration::from_secs(u64::try_from(left).unwrap_or(0));
        if left.is_zero() {
            return Err(Unusable("the authority has ended".into()));
        }
        let since = leaf.not_before.map(|moment| now.as_second().saturating_sub(moment.as_second()));
        let before =
            BACKDATE.min(since.map_or(BACKDATE, |since| Duration::from_secs(u64::try_from(since).unwrap_or(0))));
        set_validity(&mut params, now, before, leaf.life.min(left));
        Ok(params.signed_by(leaf.key, &issuer).map_err(Unusable::new)?.pem())
    }
}

impl Authority {
    /// Signs a revocation list, in hexadecimal. It begins as no certificate does.
    ///
    /// # Errors
    /// The key can't be used.
    pub(super) fn sign_list(&self, signed: &[u8]) -> Result<String, Unusable> {
        let key = KeyPair::from_pem(&self.key).map_err(Unusable::new)?;
        key.sign(signed).map(|signature| hex(&signature)).map_err(Unusable::new)
    }
}

impl fmt::Debug for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Authority({})", self.root.fingerprint)
    }
}

fn set_validity(params: &mut CertificateParams, now: Timestamp, before: Duration, life: Duration) {
    let now = u64::try_from(now.as_second()).unwrap_or(0);
    let epoch = rcgen::date_time_ymd(1970, 1, 1);
    params.not_before = epoch + Duration::from_secs(now.saturating_sub(before.as_secs()));
    params.not_after = epoch + Duration::from_secs(now.saturating_add(life.as_secs()));
}

/// Different for each request: rcgen's own follows from the key, which an agent may keep.
fn serial(request: &str) -> SerialNumber {
    let mut bytes = sha256(request.as_bytes())[..16].to_vec();
    // Positive, and without a leading zero.
    bytes[0] = (bytes[0] & 0x7f) | 0x40;
    SerialNumber::from(bytes)
}

fn sha256(bytes: &[u8]) -> Vec<u8> {
    digest::digest(&digest::SHA256, bytes).as_ref().to_vec()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use rcgen::CertificateSigningRequestParams;

    pub fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(seconds).unwrap()
    }

    /// The key of a request for this name.
    pub fn key() -> PublicKey {
        let pair = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap();
        let request = CertificateParams::default().serialize_request(&pair).unwrap().pem().unwrap();
        CertificateSigningRequestParams::from_pem(&request).unwrap().public_key
    }

    fn leaf<'a>(key: &'a PublicKey, life: u64) -> Leaf<'a> {
        Leaf { node: "worker-1", key, not_before: None, life: Duration::from_secs(life), request: "request-uid" }
    }

    #[test]
    fn a_certificate_is_for_one_node_both_ways_and_ends_with_its_authority() {
        let (authority, key) = (Authority::make(at(1_000_000)).unwrap(), key());
        let pem = authority.sign(&leaf(&key, 3600), at(2_000_000)).unwrap();
        let (_, block) = parse_x509_pem(pem.as_bytes()).unwrap();
        let (_, certificate) = X509Certificate::from_der(&block.contents).unwrap();
        let validity = certificate.validity();
        assert_eq!((validity.not_before.timestamp(), validity.not_after.timestamp()), (1_999_400, 2_003_600));
        let names = certificate.subject_alternative_name().unwrap().unwrap().value.general_names.clone();
        assert_eq!(names, [x509_parser::extensions::GeneralName::DNSName("worker-1")]);
        let usages = certificate.extended_key_usage().unwrap().unwrap().value;
        assert!(usages.server_auth && usages.client_auth && !usages.any && !certificate.is_ca());
        let end = authority.root.not_after;
        let last = authority.sign(&leaf(&key, 3600), at(end.as_second() - 60)).unwrap();
        let (_, block) = parse_x509_pem(last.as_bytes()).unwrap();
        let (_, certificate) = X509Certificate::from_der(&block.contents).unwrap();
        assert_eq!(certificate.validity().not_after.timestamp(), end.as_second());
        assert!(authority.sign(&leaf(&key, 3600), end).is_err());
    }

    #[test]
    fn who_was_revoked_gets_one_that_begins_no_earlier() {
        let (authority, key) = (Authority::make(at(1_000_000)).unwrap(), key());
        for (moment, begin) in
            [(1_999_000, 1_999_400), (1_999_900, 1_999_900), (2_000_000, 2_000_000), (2_000_009, 2_000_000)]
        {
            let leaf = Leaf { not_before: Some(at(moment)), ..leaf(&key, 3600) };
            let pem = authority.sign(&leaf, at(2_000_000)).unwrap();
            let (_, block) = parse_x509_pem(pem.as_bytes()).unwrap();
            let (_, certificate) = X509Certificate::from_der(&block.contents).unwrap();
            assert_eq!(certificate.validity().not_before.timestamp(), begin);
        }
    }

    #[test]
    fn an_authority_is_what_was_written_and_its_key_is_its_own() {
        let (one, other) = (Authority::make(at(1_000_000)).unwrap(), Authority::make(at(1_000_000)).unwrap());
        assert_eq!(Authority::read(&one.root.pem, one.key()).unwrap(), one);
        let odd = Authority::read(&one.root.pem, other.key()).unwrap_err().to_string();
        assert!(odd.contains("doesn't belong"), "{odd}");
        assert_ne!(one.root.fingerprint, other.root.fingerprint);
        assert_eq!(one.root.fingerprint.len(), 64);
        assert!(!format!("{one:?}").contains("PRIVATE"));
    }

    #[test]
    fn a_leaf_is_no_root() {
        let (authority, key) = (Authority::make(at(1_000_000)).unwrap(), key());
        let pem = authority.sign(&leaf(&key, 3600), at(2_000_000)).unwrap();
        assert!(Root::read(&pem).is_err());
    }
}
