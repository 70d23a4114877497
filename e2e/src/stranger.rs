//! Whoever connects to an agent's port, with any certificate or none, as no agent of the mesh does.

use crate::failure::{Failure, Outcome};
use crate::program::repository;
use crate::release::HOME;
use rcgen::{CertificateParams, Issuer, KeyPair};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, aws_lc_rs, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{ClientConfig, ClientConnection, DigitallySignedStruct, SignatureScheme, StreamOwned};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use syncmesh_core::version::ReplicaId;
use syncmesh_protocol::frame;
use syncmesh_protocol::message::{Hello, Message, VERSIONS};

/// How long an agent may take to answer.
const PATIENCE: Duration = Duration::from_secs(15);

/// What somebody shows.
pub struct Credential {
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
}

impl Credential {
    /// One for a node that it has signed itself.
    pub fn self_signed(node: &str) -> Outcome<Self> {
        let (params, key) = wish(node)?;
        let certificate = params.self_signed(&key).map_err(Failure::to("make a certificate"))?;
        Self::read(&format!("{}{}", certificate.pem(), key.serialize_pem()))
    }

    /// One for a node of this authority.
    pub fn signed_by(certificate: &str, key: &str, node: &str) -> Outcome<Self> {
        let authority = KeyPair::from_pem(key).map_err(Failure::to("read an authority's key"))?;
        let authority = Issuer::from_ca_cert_pem(certificate, authority).map_err(Failure::to("read an authority"))?;
        let (params, key) = wish(node)?;
        let certificate = params.signed_by(&key, &authority).map_err(Failure::to("make a certificate"))?;
        Self::read(&format!("{}{}", certificate.pem(), key.serialize_pem()))
    }

    /// One that was found, with its key.
    pub fn read(pem: &str) -> Outcome<Self> {
        let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem.as_bytes()).collect();
        Ok(Self {
            chain: chain.map_err(Failure::to("read a certificate"))?,
            key: PrivateKeyDer::from_pem_slice(pem.as_bytes()).map_err(Failure::to("read a key"))?,
        })
    }
}

fn wish(node: &str) -> Outcome<(CertificateParams, KeyPair)> {
    let params = CertificateParams::new(vec![node.to_owned()]).map_err(Failure::to("make a certificate"))?;
    Ok((params, KeyPair::generate().map_err(Failure::to("make a key"))?))
}

/// Connects to an agent's pod as `node`, says hello if it is let so far, and gives all that it is told, until the agent ends it.
pub fn knock(pod: &str, node: &str, credential: Option<Credential>) -> Outcome<Vec<String>> {
    let door = Door::to(pod)?;
    let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, door.port)).map_err(Failure::to("connect to an agent"))?;
    stream.set_read_timeout(Some(PATIENCE)).map_err(Failure::to("connect to an agent"))?;
    let name = ServerName::try_from(node.to_owned()).map_err(Failure::to("name a node"))?;
    let client = ClientConnection::new(config(credential)?, name).map_err(Failure::to("begin TLS"))?;
    let mut tls = StreamOwned::new(client, stream);
    let mut hello = Vec::new();
    frame::encode(&Message::Hello(of(node)), 0, &mut hello);
    // Who is refused hears it when it reads.
    let _ = tls.write_all(&hello);
    let (mut told, mut plain, mut buffer) = (Vec::new(), Vec::new(), [0; 4096]);
    loop {
        match tls.read(&mut buffer) {
            Ok(0) => break,
            Ok(read) => plain.extend_from_slice(&buffer[..read]),
            Err(why) => {
                told.push(why.to_string());
                break;
            }
        }
        while let Some(found) = frame::decode(&plain).map_err(Failure::to("read what an agent says"))? {
            told.push(match &found.message {
                Message::Goodbye(why) => format!("goodbye: {why}"),
                message => message.name().to_owned(),
            });
            let bytes = found.bytes;
            plain.drain(..bytes);
        }
    }
    Ok(told)
}

fn of(node: &str) -> Hello {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis();
    Hello {
        lowest: VERSIONS.0,
        highest: VERSIONS.1,
        node: node.to_owned(),
        replica: ReplicaId(7),
        wall_millis: u64::try_from(now).unwrap_or_default(),
        features: 0,
    }
}

fn config(credential: Option<Credential>) -> Outcome<Arc<ClientConfig>> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider.clone())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(Failure::to("set up TLS"))?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Anybody(provider)));
    let mut config = match credential {
        None => builder.with_no_client_auth(),
        Some(Credential { chain, key }) => {
            builder.with_client_auth_cert(chain, key).map_err(Failure::to("use a certificate"))?
        }
    };
    config.alpn_protocols = vec![b"syncmesh/1".to_vec()];
    Ok(Arc::new(config))
}

/// Takes every agent for the right one: a stranger doesn't care.
#[derive(Debug)]
struct Anybody(Arc<CryptoProvider>);

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signature, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signature, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

/// A way to a pod's port through the API server and its kubelet, past every NetworkPolicy.
struct Door {
    child: Child,
    port: u16,
    /// It writes a line for each connection, and ends if nobody can read it.
    _lines: Option<BufReader<ChildStdout>>,
}

impl Door {
    fn to(pod: &str) -> Outcome<Self> {
        let mut child = Command::new("kubectl")
            .args(["port-forward", "-n", HOME, &format!("pod/{pod}"), ":7400", "--address", "127.0.0.1"])
            .current_dir(repository())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .map_err(Failure::to("run kubectl port-forward"))?;
        let mut line = String::new();
        let mut lines = child.stdout.take().map(BufReader::new);
        let read = lines.as_mut().map(|lines| lines.read_line(&mut line));
        // Forwarding from 127.0.0.1:40123 -> 7400
        let port = line.split("127.0.0.1:").nth(1).and_then(|rest| rest.split_whitespace().next()?.parse().ok());
        let door = Self { child, port: port.unwrap_or_default(), _lines: lines };
        match (read, port) {
            (Some(Ok(_)), Some(_)) => Ok(door),
            _ => Err(Failure::new(format!("kubectl port-forward to {pod} said {line:?}"))),
        }
    }
}

impl Drop for Door {
    fn drop(&mut self) {
        // One that has ended already can't be killed, and that is all right.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
