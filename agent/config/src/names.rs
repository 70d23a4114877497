//! Names of nodes and volumes, and addresses of peers: made once by a constructor that can fail.

use crate::limits;
use std::fmt;

/// A node's name: a DNS-1123 subdomain of at most 253 bytes. It is the DNS name in the node's certificate.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeName(String);

impl NodeName {
    /// Takes `text` if it is a DNS-1123 subdomain; else says what is wrong with it and what to write.
    pub fn new(text: &str) -> Result<Self, String> {
        if text.is_empty() {
            return Err("a node's name can't be empty: write one like \"a\" or \"node-1.site\"".into());
        }
        if text.len() > limits::NODE_NAME_BYTES {
            return Err(format!(
                "a node's name has at most {} characters, this one has {}: shorten it",
                limits::NODE_NAME_BYTES,
                text.len()
            ));
        }
        for label in text.split('.') {
            check_label(label, limits::LABEL_BYTES).map_err(|why| {
                format!("\"{}\" is no node's name: {why}; write one like \"a\" or \"node-1.site\"", text.escape_debug())
            })?;
        }
        // TLS takes a name that ends in digits alone for an address, and would refuse it as a server's name.
        let last_label = text.rsplit('.').next().unwrap_or(text);
        if last_label.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(format!(
                "\"{text}\" is no node's name: its last part is a number, as of an IP address; put a letter in that, like \"n1\""
            ));
        }
        Ok(Self(text.to_owned()))
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for NodeName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::str::FromStr for NodeName {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        Self::new(text)
    }
}

/// A volume's name: a DNS-1123 label of at most 40 bytes, the same on all nodes.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct VolumeName(String);

impl VolumeName {
    /// Takes `text` if it is a DNS-1123 label; else says what is wrong with it and what to write.
    pub fn new(text: &str) -> Result<Self, String> {
        check_label(text, limits::VOLUME_NAME_BYTES).map_err(|why| {
            format!("\"{}\" is no volume's name: {why}; write one like \"docs\" or \"web-assets\"", text.escape_debug())
        })?;
        Ok(Self(text.to_owned()))
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for VolumeName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::str::FromStr for VolumeName {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        Self::new(text)
    }
}

/// RFC 1123, section 2.1, as Kubernetes reads it: lower case, digits and `-`, which neither begins nor ends it.
fn check_label(label: &str, longest: usize) -> Result<(), String> {
    if label.is_empty() {
        return Err("a part of it is empty".into());
    }
    if label.len() > longest {
        return Err(format!("it may have {longest} characters between dots, not {}", label.len()));
    }
    let stranger = label.chars().find(|c| !(c.is_ascii_lowercase() || c.is_ascii_digit() || *c == '-'));
    if let Some(stranger) = stranger {
        return Err(format!("'{}' is not allowed, only a-z, 0-9 and '-'", stranger.escape_debug()));
    }
    if label.starts_with('-') || label.ends_with('-') {
        return Err("'-' may neither begin nor end it".into());
    }
    Ok(())
}

/// Where a peer listens: `host:port`, kept as text because names are resolved at each attempt to connect.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Address(String);

impl Address {
    /// Takes `text` if it is `host:port` with a DNS name, an IPv4 address or an IPv6 address in brackets, and a port of
    /// 1 to 65535; else says what is wrong with it and what to write.
    pub fn new(text: &str) -> Result<Self, String> {
        let refuse = |why: &str| {
            Err(format!(
                "\"{}\" is no address: {why}; write host:port, like \"10.0.0.2:7400\", \"node-b.example:7400\" or \
                 \"[fd00::2]:7400\"",
                text.escape_debug()
            ))
        };
        let Some((host, port)) = text.rsplit_once(':') else {
            return refuse("the port is missing");
        };
        let port_is_digits = !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit());
        if !port_is_digits || port.parse::<u16>().is_ok_and(|port| port == 0) || port.parse::<u16>().is_err() {
            return refuse("the port must be a number from 1 to 65535");
        }
        if let Some(inside) = host.strip_prefix('[') {
            let inside = inside.strip_suffix(']').unwrap_or("");
            if inside.parse::<std::net::Ipv6Addr>().is_err() {
                return refuse("what stands in brackets is no IPv6 address");
            }
            return Ok(Self(text.to_owned()));
        }
        if host.contains(':') {
            return refuse("an IPv6 address stands in brackets");
        }
        let host_is_name = !host.is_empty()
            && host.len() <= limits::NODE_NAME_BYTES
            && host.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._".contains(&byte));
        if !host_is_name {
            return refuse("the host is neither a name nor an IP address");
        }
        Ok(Self(text.to_owned()))
    }

    /// The whole address, as `ToSocketAddrs` takes it.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn node_names_are_dns_1123_subdomains() {
        for good in ["a", "node-1", "node-1.site", "1a", "1.a", &"a".repeat(63)] {
            assert!(NodeName::new(good).is_ok(), "{good}");
        }
        let long = [&"a".repeat(63)[..]; 5].join(".");
        for bad in
            ["", "A", "a_b", "-a", "a-", "a..b", ".a", "a.", "a b", "ä", "1", "a.1", "10.0.0.1", &"a".repeat(64), &long]
        {
            assert!(NodeName::new(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn volume_names_are_labels_of_at_most_40_characters() {
        for good in ["a", "docs", "0", "web-assets", &"v".repeat(40)] {
            assert!(VolumeName::new(good).is_ok(), "{good}");
        }
        for bad in ["", "a.b", "Docs", "a/b", "..", "-", &"v".repeat(41)] {
            assert!(VolumeName::new(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn addresses_have_a_host_and_a_port() {
        for good in ["b:7400", "127.0.0.1:1", "[::1]:65535", "node-b.example:7400", "svc_1:80"] {
            assert!(Address::new(good).is_ok(), "{good}");
        }
        for bad in
            ["", "b", "b:", ":7400", "b:0", "b:65536", "b:+7", "::1:7400", "[::1]", "[b]:7", "[::1:7", "a b:7", "a/b:7"]
        {
            assert!(Address::new(bad).is_err(), "{bad}");
        }
    }
}
