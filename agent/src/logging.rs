//! Where log lines go and what they look like.

use std::io::IsTerminal;
use std::sync::OnceLock;
use syncmesh_config::{Log, LogFormat};
use tracing_subscriber::EnvFilter;

/// Overrides the configured level, also by module, as `RUST_LOG` does elsewhere: `debug`, or
/// `info,syncmesh_engine::publish=trace`.
pub const OVERRIDE: &str = "SYNCMESH_LOG";

type Set = Box<dyn Fn(EnvFilter) -> Result<(), tracing_subscriber::reload::Error> + Send + Sync>;

/// Changes what is logged, once lines are sent somewhere.
static SET: OnceLock<Set> = OnceLock::new();

/// Logs what the configuration says from now on, unless [`OVERRIDE`] says otherwise. The form of lines stays.
///
/// # Errors
/// The override can't be read.
pub fn set_level(log: Log) -> Result<(), String> {
    let filter = filter(log, std::env::var(OVERRIDE).ok())?;
    let Some(set) = SET.get() else { return Ok(()) };
    set(filter).map_err(|error| format!("can't change what is logged: {error}; please report it"))
}

/// Sends log lines of this process to standard error from now on.
///
/// # Errors
/// The override can't be read, or lines are sent somewhere already.
pub fn start(log: Log) -> Result<(), String> {
    let lines = tracing_subscriber::fmt()
        .with_env_filter(filter(log, std::env::var(OVERRIDE).ok())?)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        // Else a closed standard error ends the thread that logs.
        .log_internal_errors(false);
    let started = match log.format {
        LogFormat::Text => {
            let lines = lines.with_filter_reloading();
            let handle = lines.reload_handle();
            let _ = SET.set(Box::new(move |filter| handle.reload(filter)));
            lines.try_init()
        }
        LogFormat::Json => {
            let lines = lines.json().flatten_event(true).with_filter_reloading();
            let handle = lines.reload_handle();
            let _ = SET.set(Box::new(move |filter| handle.reload(filter)));
            lines.try_init()
        }
    };
    started.map_err(|error| format!("can't start logging: {error}; please report it"))
}

fn filter(log: Log, overriding: Option<String>) -> Result<EnvFilter, String> {
    let Some(text) = overriding.filter(|text| !text.is_empty()) else {
        return Ok(EnvFilter::new(log.level.as_str()));
    };
    EnvFilter::builder().parse(&text).map_err(|error| {
        format!(
            "can't read {OVERRIDE}={text:?}: {error}; write a level like \"debug\", or \
             \"info,syncmesh_engine::publish=trace\""
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use syncmesh_config::LogLevel;

    #[test]
    fn the_override_wins_over_the_configured_level_and_nonsense_is_refused() {
        let log = Log { level: LogLevel::Warn, format: LogFormat::Text };
        assert_eq!(filter(log, None).unwrap().to_string(), "warn");
        assert_eq!(filter(log, Some(String::new())).unwrap().to_string(), "warn");
        assert_eq!(filter(log, Some("info,a=trace".into())).unwrap().to_string(), "a=trace,info");
        let error = filter(log, Some("a=loud".into())).unwrap_err();
        assert!(error.contains("SYNCMESH_LOG") && error.contains("write a level"), "{error}");
    }
}
