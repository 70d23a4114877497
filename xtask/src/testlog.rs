//! Reads what `cargo test -- --show-output` prints: counts, names of failures, and tests that said that they could
//! not run. The harness hides a passing test's words otherwise, and with them "not run: needs ...".

/// What a run of `cargo test` came to.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct TestLog {
    /// Sum over all binaries.
    pub passed: u64,
    /// Sum over all binaries.
    pub failed: u64,
    /// Sum over all binaries.
    pub ignored: u64,
    /// `test: needs X`.
    pub not_run: Vec<String>,
    /// Names of failed tests.
    pub failures: Vec<String>,
    section: Section,
    test: String,
}

#[derive(Debug, Default, PartialEq, Eq, Clone, Copy)]
enum Section {
    /// Lines of results, or cargo's own.
    #[default]
    Results,
    /// Words of tests that passed: not worth showing.
    Successes,
}

impl TestLog {
    /// Takes the next line, and says whether people should see it.
    pub fn line(&mut self, line: &str) -> bool {
        if let Some(rest) = line.strip_prefix("test result: ") {
            self.section = Section::Results;
            self.passed += count(rest, "passed");
            self.failed += count(rest, "failed");
            self.ignored += count(rest, "ignored");
            return true;
        }
        match line {
            "successes:" => self.section = Section::Successes,
            "failures:" => self.section = Section::Results,
            _ => {}
        }
        if let Some(name) = line.strip_prefix("---- ") {
            self.test = name.split_whitespace().next().unwrap_or(name).to_owned();
        }
        // One test at a time prints its name before it runs, and an uncaptured word stands on that line.
        if let Some((name, result)) = line.strip_prefix("test ").and_then(|rest| rest.split_once(" ... ")) {
            self.test = name.to_owned();
            if result == "FAILED" {
                self.failures.push(name.to_owned());
            } else if result.starts_with("ignored") {
                let why = result.split_once(", ").map_or("it is ignored", |(_, why)| why);
                self.not_run.push(format!("{name}: {why}"));
            }
        }
        if let Some((_, why)) = line.split_once("not run: ") {
            let found = format!("{}: {why}", self.test);
            if !self.not_run.contains(&found) {
                self.not_run.push(found);
            }
            return false;
        }
        match self.section {
            Section::Successes => false,
            // Hundreds of "test x ... ok" hide what matters; the counts follow.
            Section::Results => !(line.starts_with("test ") && line.ends_with(" ... ok")),
        }
    }
}

/// `N word` in `ok. 3 passed; 0 failed; ...`.
fn count(rest: &str, word: &str) -> u64 {
    rest.split([';', '.'])
        .filter_map(|part| part.trim().strip_suffix(word))
        .find_map(|number| number.trim().parse().ok())
        .unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_failures_and_tests_that_did_not_run_are_read() {
        let text = "\
running 3 tests
test a::one ... ok
test a::two ... FAILED
test a::three ... ok

successes:

---- a::three stdout ----
some words
not run: needs a user namespace

successes:
    a::one
    a::three

failures:

---- a::two stdout ----
it broke

failures:
    a::two

test result: FAILED. 2 passed; 1 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.00s
running 1 test
test b ... ignored, takes an hour
test result: ok. 0 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 1.20s";
        let mut log = TestLog::default();
        let shown: Vec<&str> = text.lines().filter(|line| log.line(line)).collect();
        assert_eq!((log.passed, log.failed, log.ignored), (2, 1, 1));
        assert_eq!(log.not_run, ["a::three: needs a user namespace", "b: takes an hour"]);
        assert_eq!(log.failures, ["a::two"]);
        assert!(shown.contains(&"it broke") && !shown.contains(&"some words"));
        assert!(!shown.contains(&"test a::one ... ok"));
    }
}
