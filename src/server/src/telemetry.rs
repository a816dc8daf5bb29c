//! Log lines: one structured line per event, on standard error.
//!
//! Only our own crates are heard below `warn`: what libraries say about the bytes they carry does
//! not belong into a log.

use std::ffi::OsStr;
use std::io::IsTerminal;

use tracing_subscriber::Layer;
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

/// The variable that sets the level, whatever the configuration says.
pub const LEVEL_VARIABLE: &str = "FIELDSEAL_LOG";

/// What the lines of checkpoints are called. They are what shows that the log was cut off, so they are
/// written at every level but `off`.
pub(crate) const CHECKPOINTS: &str = "fieldseal_server::checkpoint";

/// How lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// Text on a terminal, JSON elsewhere.
    Auto,
    /// For people.
    Text,
    /// One JSON object a line, for programs.
    Json,
}

impl LogFormat {
    /// `auto`, `text` or `json`.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        Some(match text {
            "auto" => Self::Auto,
            "text" => Self::Text,
            "json" => Self::Json,
            _ => return None,
        })
    }
}

/// What is said, and how.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogSettings {
    /// What is less important than this is not said.
    pub level: LevelFilter,
    /// How lines look.
    pub format: LogFormat,
}

impl Default for LogSettings {
    fn default() -> Self {
        Self { level: LevelFilter::INFO, format: LogFormat::Auto }
    }
}

/// Why there are no log lines.
#[derive(Debug, thiserror::Error)]
pub enum TelemetryError {
    /// The level is none that we know.
    #[error("FIELDSEAL_LOG must be error, warn, info, debug, trace or off")]
    Level,
    /// Logging was set up before.
    #[error("logging is already set up")]
    Twice,
}

/// Sets up logging for the process. `FIELDSEAL_LOG` counts for more than the level of the settings.
///
/// # Errors
/// [`TelemetryError`] for an unknown level, or if it was set up before.
pub fn init(settings: LogSettings) -> Result<(), TelemetryError> {
    let filter = filter(chosen(std::env::var_os(LEVEL_VARIABLE).as_deref(), settings.level)?);
    let lines = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
    let registry = tracing_subscriber::registry();
    let text = match settings.format {
        LogFormat::Auto => std::io::stderr().is_terminal(),
        LogFormat::Text => true,
        LogFormat::Json => false,
    };
    if text {
        // Without colours: the library's are not built in, and it complains of whoever asks for them.
        registry.with(lines.with_ansi(false).with_filter(filter)).try_init()
    } else {
        let lines = lines.json().flatten_event(true).with_current_span(false);
        registry.with(lines.with_span_list(false).with_filter(filter)).try_init()
    }
    .map_err(|_| TelemetryError::Twice)
}

/// The variable's level; the settings' if it is not set, or empty.
fn chosen(variable: Option<&OsStr>, settings: LevelFilter) -> Result<LevelFilter, TelemetryError> {
    match variable.filter(|text| !text.is_empty()) {
        None => Ok(settings),
        Some(text) => level(&text.to_string_lossy()).ok_or(TelemetryError::Level),
    }
}

/// Whether the text names a level.
pub(crate) fn is_level(text: &str) -> bool {
    level(text).is_some()
}

/// `error`, `warn`, `info`, `debug`, `trace` or `off`.
pub(crate) fn level(text: &str) -> Option<LevelFilter> {
    Some(match text.to_ascii_lowercase().as_str() {
        "off" => LevelFilter::OFF,
        "error" => LevelFilter::ERROR,
        "warn" => LevelFilter::WARN,
        "" | "info" => LevelFilter::INFO,
        "debug" => LevelFilter::DEBUG,
        "trace" => LevelFilter::TRACE,
        _ => return None,
    })
}

fn filter(level: LevelFilter) -> Targets {
    let checkpoints = if level == LevelFilter::OFF { level } else { level.max(LevelFilter::INFO) };
    Targets::new()
        .with_default(level.min(LevelFilter::WARN))
        .with_target("fieldseal", level)
        .with_target(CHECKPOINTS, checkpoints)
}

#[cfg(test)]
mod tests {
    use super::*;
    use tracing::Level;

    #[test]
    fn checkpoints_are_written_at_every_level_but_off() {
        for text in ["error", "warn", "info", "debug", "trace"] {
            let filter = filter(level(text).unwrap());
            assert!(filter.would_enable(CHECKPOINTS, &Level::INFO), "{text}");
        }
        assert!(!filter(LevelFilter::OFF).would_enable(CHECKPOINTS, &Level::INFO));
        assert!(!filter(LevelFilter::WARN).would_enable("fieldseal_server::run", &Level::INFO));
    }

    #[test]
    fn libraries_are_never_heard_below_warn() {
        for text in ["info", "debug", "trace"] {
            let filter = filter(level(text).unwrap());
            for library in ["h2", "hyper", "tonic", "rustls", "sled"] {
                assert!(!filter.would_enable(library, &Level::INFO), "{library} at {text}");
                assert!(filter.would_enable(library, &Level::WARN), "{library} at {text}");
            }
        }
        assert!(level("h2=trace").is_none());
        assert!(!filter(LevelFilter::OFF).would_enable("hyper", &Level::ERROR));
        assert!(!filter(LevelFilter::ERROR).would_enable("hyper", &Level::WARN));
        assert!(filter(LevelFilter::DEBUG).would_enable("fieldseal_server", &Level::DEBUG));
        assert!(!filter(LevelFilter::INFO).would_enable("fieldseal_server", &Level::DEBUG));
    }

    #[test]
    fn an_empty_variable_is_none() {
        let of = |variable: Option<&str>| {
            chosen(variable.map(OsStr::new), LevelFilter::DEBUG).map_err(|e| e.to_string())
        };
        assert_eq!(of(None), Ok(LevelFilter::DEBUG));
        assert_eq!(of(Some("")), Ok(LevelFilter::DEBUG));
        assert_eq!(of(Some("error")), Ok(LevelFilter::ERROR));
        assert!(of(Some(" ")).is_err());
    }
}
