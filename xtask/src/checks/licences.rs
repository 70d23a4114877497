//! Licences of everything that we link, as SPDX expressions (SPDX specification, annex "SPDX license expressions"),
//! against a list of those that fit Apache-2.0 and ask for nothing but their text.

use super::Allowed;
use crate::repository::Metadata;

/// Licences that may stand alone.
const FINE: &[&str] = &[
    "MIT",
    "MIT-0",
    "Apache-2.0",
    "Apache-2.0 WITH LLVM-exception",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "ISC",
    "Unicode-3.0",
    "Zlib",
    "CC0-1.0",
    "Unlicense",
    "0BSD",
    // aws-lc carries code of OpenSSL.
    "OpenSSL",
];

/// Packages whose licence isn't fine and that have no exception, and exceptions without need.
pub fn check(metadata: &Metadata, allowed: &Allowed) -> Vec<String> {
    let mut complaints = Vec::new();
    let mut needed = Vec::new();
    for package in &metadata.packages {
        let verdict = match &package.license {
            None => Err("names no licence".to_owned()),
            Some(text) => match fine(text) {
                Ok(true) => Ok(()),
                Ok(false) => Err(format!("has licence `{text}`, which is not on our list")),
                Err(why) => Err(format!("has licence `{text}`, which we can't read: {why}")),
            },
        };
        if let Err(what) = verdict {
            needed.push(package.name.clone());
            if !allowed.has("licences", &package.name) {
                complaints.push(format!(
                    "{} {} {what}; choose another crate, or give a reason in xtask/allowed.txt under [licences]",
                    package.name, package.version
                ));
            }
        }
    }
    complaints.extend(allowed.unneeded("licences", &needed));
    complaints
}

/// Whether we may choose only fine licences. Older manifests write `MIT/Apache-2.0`; the slash means OR.
fn fine(expression: &str) -> Result<bool, String> {
    let spaced = expression.replace('(', " ( ").replace(')', " ) ").replace('/', " OR ");
    let mut words = Words { words: spaced.split_whitespace().collect(), at: 0 };
    let result = words.alternatives(0)?;
    match words.next() {
        None => Ok(result),
        Some(word) => Err(format!("`{word}` stands where the end should be")),
    }
}

/// Deep enough for any honest manifest; recursion has to end.
const DEPTH_LIMIT: usize = 32;

struct Words<'a> {
    words: Vec<&'a str>,
    at: usize,
}

impl<'a> Words<'a> {
    fn peek(&self) -> Option<&'a str> {
        self.words.get(self.at).copied()
    }

    fn next(&mut self) -> Option<&'a str> {
        let word = self.peek();
        self.at += 1;
        word
    }

    /// a OR b: one of them suffices. Binds weaker than AND.
    fn alternatives(&mut self, depth: usize) -> Result<bool, String> {
        let mut result = self.together(depth)?;
        while self.peek() == Some("OR") {
            self.at += 1;
            let other = self.together(depth)?;
            result |= other;
        }
        Ok(result)
    }

    /// a AND b: both have to be fine.
    fn together(&mut self, depth: usize) -> Result<bool, String> {
        let mut result = self.one(depth)?;
        while self.peek() == Some("AND") {
            self.at += 1;
            let other = self.one(depth)?;
            result &= other;
        }
        Ok(result)
    }

    fn one(&mut self, depth: usize) -> Result<bool, String> {
        if depth > DEPTH_LIMIT {
            return Err("too many parentheses".into());
        }
        match self.next() {
            None => Err("it ends too early".into()),
            Some("(") => {
                let result = self.alternatives(depth + 1)?;
                match self.next() {
                    Some(")") => Ok(result),
                    _ => Err("a parenthesis is not closed".into()),
                }
            }
            Some(word @ (")" | "AND" | "OR" | "WITH")) => Err(format!("`{word}` stands where a licence should be")),
            Some(name) if self.peek() == Some("WITH") => {
                self.at += 1;
                let exception = self.next().ok_or("WITH is followed by nothing")?;
                Ok(FINE.contains(&format!("{name} WITH {exception}").as_str()))
            }
            Some(name) => Ok(FINE.contains(&name)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::repository::Package;

    #[test]
    fn one_of_several_suffices_and_all_of_a_conjunction_count() {
        for (expression, expected) in [
            ("MIT", true),
            ("GPL-3.0", false),
            ("MIT OR GPL-3.0", true),
            ("GPL-3.0 OR MIT", true),
            ("MIT AND GPL-3.0", false),
            ("MIT/Apache-2.0", true),
            ("GPL-2.0 / GPL-3.0", false),
            ("Apache-2.0 WITH LLVM-exception", true),
            ("GPL-2.0 WITH Classpath-exception-2.0", false),
            ("Apache-2.0 WITH LLVM-exception OR Apache-2.0 OR MIT", true),
            ("(MIT OR Apache-2.0) AND Unicode-3.0", true),
            ("ISC AND (Apache-2.0 OR ISC) AND OpenSSL", true),
            // AND binds tighter than OR.
            ("MIT OR GPL-3.0 AND ISC", true),
            ("(MIT OR GPL-3.0) AND AGPL-3.0", false),
        ] {
            assert_eq!(fine(expression), Ok(expected), "{expression}");
        }
    }

    #[test]
    fn what_is_no_expression_is_an_error() {
        for expression in ["", "MIT OR", "(MIT", "MIT)", "AND MIT", "MIT MIT", "A WITH"] {
            assert!(fine(expression).is_err(), "{expression}");
        }
        assert!(fine(&"(".repeat(10_000)).is_err());
    }

    #[test]
    fn a_package_without_a_licence_needs_a_reason() {
        let metadata = Metadata {
            workspace_members: Vec::new(),
            packages: vec![Package { name: "x".into(), ..Package::default() }],
        };
        assert_eq!(check(&metadata, &Allowed::default()).len(), 1);
        let allowed = Allowed::parse("[licences]\nx: asked its author").unwrap();
        assert_eq!(check(&metadata, &allowed), Vec::<String>::new());
    }
}
