//! Every metric: its name, its labels and what it says. `docs/metrics.md` lists the same.
//!
//! No label takes its value from a caller: methods are those of the wire contract, and everything
//! else is a short list of our own.

/// What kind of number a metric is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Only grows, from the start of the process.
    Counter,
    /// As it is now.
    Gauge,
    /// How often a number fell below each of several bounds, and their sum.
    Histogram,
}

/// A family of numbers with one name.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Metric {
    pub(super) name: &'static str,
    pub(super) kind: Kind,
    pub(super) labels: &'static [&'static str],
    pub(super) help: &'static str,
}

macro_rules! metrics {
    ($($constant:ident = $kind:ident $name:literal [$($label:literal),*] $help:literal;)*) => {
        $(pub(super) const $constant: Metric = Metric {
            name: $name, kind: Kind::$kind, labels: &[$($label),*], help: $help,
        };)*
        /// All of them.
        #[cfg(test)]
        pub(super) const ALL: &[&Metric] = &[$(&$constant),*];
    };
}

metrics! {
    BUILD = Gauge "fieldseal_build_info" ["version"]
        "Always 1; the label says which version runs";
    READY = Gauge "fieldseal_ready" []
        "1 while every call can be served, as /readyz says";
    UPTIME = Gauge "fieldseal_uptime_seconds" []
        "How long the process has run";
    KEYS_LOCKED = Gauge "fieldseal_key_pages_locked" []
        "1 if all pages with keys are locked in memory";
    PROBES_CUT_OFF = Counter "fieldseal_probe_connections_cut_off_total" []
        "Connections of the second listener that were cut off to make room for newer ones";
    CALLS = Counter "fieldseal_calls_total" ["method", "code"]
        "Calls by method and gRPC status code";
    CALL_SECONDS = Histogram "fieldseal_call_seconds" ["method", "outcome"]
        "How long calls took until their answer began: ok, refused (the caller's affair), failed \
         (ours) or cancelled";
    IN_FLIGHT = Gauge "fieldseal_calls_in_flight" []
        "Calls that are being handled";
    SEALED = Counter "fieldseal_values_sealed_total" []
        "Values encrypted";
    OPENED = Counter "fieldseal_values_opened_total" []
        "Values decrypted";
    LOG_RECORDS = Gauge "fieldseal_audit_records" []
        "Records in the audit log";
    LOG_BYTES = Counter "fieldseal_audit_written_bytes_total" []
        "Bytes that were written to the audit log";
    QUEUE = Gauge "fieldseal_audit_queue_records" []
        "Records that wait for the log's writer";
    QUEUE_LIMIT = Gauge "fieldseal_audit_queue_limit_records" []
        "How many may wait; more are refused";
    GROUP = Histogram "fieldseal_audit_group_records" []
        "Records that were written and synced together";
    SYNC = Histogram "fieldseal_audit_sync_seconds" []
        "How long writing and syncing a group took";
    FREE = Gauge "fieldseal_free_bytes" ["place"]
        "Bytes that the file system of the audit log and of the store has left";
    RESERVE = Gauge "fieldseal_reserve_bytes" []
        "Free bytes below which nothing is written to the store and no segment of the log is begun";
    UNTIL_FULL = Gauge "fieldseal_audit_seconds_until_full" []
        "When the reserve is reached if the log grows as in the last five minutes; at most ten years";
    BACKUP_AGE = Gauge "fieldseal_backup_age_seconds" []
        "How long ago the newest backup was made; nothing while there is none";
    BACKUP_FAILED = Gauge "fieldseal_backup_failed" []
        "1 while the last attempt to make a backup is one that failed";
    ANCHOR_BEHIND = Gauge "fieldseal_audit_anchor_behind_records" ["place"]
        "Records of the audit log behind the newest checkpoint that was posted: to the file, the command, or the address";
    ANCHOR_FAILED = Gauge "fieldseal_audit_anchor_failed" ["place"]
        "1 while the last attempt to post a checkpoint is one that failed";
    EXPORT_BEHIND = Gauge "fieldseal_audit_export_behind_records" ["target"]
        "Records of the audit log that were not handed on yet: to the file, or to the collector";
    EXPORT_LAG = Gauge "fieldseal_audit_export_behind_seconds" ["target"]
        "How old the oldest of these is; 0 if there are none";
    EXPORT_FAILED = Gauge "fieldseal_audit_export_failed" ["target"]
        "1 while the last attempt to hand records on is one that failed";
    EXPORT_REJECTED = Counter "fieldseal_audit_export_rejected_total" ["target"]
        "Records that the collector took and said that it does not keep";
    RETENTION_DUE = Gauge "fieldseal_audit_retention_due" ["job"]
        "Segments of the audit log that are to move, or records whose detail is to go, that were due at the last run and are not done";
    RETENTION_FAILED = Gauge "fieldseal_audit_retention_failed" ["job"]
        "1 while the last run of what is done to the log as it grows old is one that failed";
    AT_RISK = Gauge "fieldseal_data_keys_at_risk" []
        "Data keys that are in no backup and in no copy: lost with the disk";
    COPY_OK = Gauge "fieldseal_store_copy_ok" []
        "1 while the copy of the store is written; nothing without store.copy";
    KEYS = Gauge "fieldseal_keys" []
        "Keys";
    DATA_KEYS = Gauge "fieldseal_data_keys_cached" []
        "Data keys in memory";
    DATA_KEYS_LIMIT = Gauge "fieldseal_data_keys_cached_limit" []
        "How many can be in memory";
    DATA_KEYS_MADE = Counter "fieldseal_data_keys_made_total" []
        "Data keys that were made";
    PARTITIONS_SHREDDING = Gauge "fieldseal_partitions_shredding" []
        "Shredded partitions whose data keys are still there: their windows are not over";
    CACHE_HITS = Counter "fieldseal_data_key_cache_hits_total" []
        "Look-ups of data keys that found one in memory";
    CACHE_MISSES = Counter "fieldseal_data_key_cache_misses_total" []
        "Look-ups that had to read the store";
    REWRAPS = Gauge "fieldseal_rewraps_running" []
        "Rewraps that run";
    REWRAPPED = Counter "fieldseal_data_keys_rewrapped_total" []
        "Data keys that rewraps moved under another version";
    SCRUBS = Counter "fieldseal_store_scrubs_total" []
        "Times that every record of the store was opened and checked";
    SCRUB_PENDING = Gauge "fieldseal_store_scrub_pending" []
        "1 until that was done once since the start";
    SCRUB_AGE = Gauge "fieldseal_store_scrub_age_seconds" []
        "How long ago that was done";
    SCRUBBED = Gauge "fieldseal_store_scrubbed_records" []
        "Records that were opened then";
    DAMAGED = Gauge "fieldseal_store_damaged_records" []
        "Records that were found damaged then";
    GENERATION_AGE = Gauge "fieldseal_store_generation_age_seconds" []
        "How old the newest generation of the store is";
    CERTIFICATE_AGE = Gauge "fieldseal_certificate_age_seconds" ["certificate"]
        "How long the server's certificate and the youngest client authority have been valid";
    CERTIFICATE_LEFT = Gauge "fieldseal_certificate_remaining_seconds" ["certificate"]
        "How long the server's certificate and the next client authority to expire stay valid; \
         negative afterwards";
    POLICY_AGE = Gauge "fieldseal_policy_age_seconds" []
        "How long these policies have been in force in this process";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_say_what_they_are() {
        for metric in ALL {
            let name = metric.name;
            assert!(name.starts_with("fieldseal_"), "{name}");
            assert!(name.bytes().all(|b| b.is_ascii_lowercase() || b == b'_'), "{name}");
            assert_eq!(name.ends_with("_total"), metric.kind == Kind::Counter, "{name}");
        }
        let mut names: Vec<_> = ALL.iter().map(|metric| metric.name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), ALL.len(), "a name is used twice");
    }

    /// `docs/metrics.md` has one line for each metric, and none for another.
    #[test]
    fn the_document_lists_exactly_these() {
        let document = include_str!("../../../../docs/metrics.md");
        let mut documented: Vec<_> =
            document.lines().filter(|line| line.starts_with("| `fieldseal_")).collect();
        let mut expected: Vec<_> = ALL.iter().map(|metric| line(metric)).collect();
        documented.sort_unstable();
        expected.sort_unstable();
        assert_eq!(documented, expected, "\n{}", expected.join("\n"));
    }

    fn line(metric: &Metric) -> String {
        let kind = match metric.kind {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram => "histogram",
        };
        let labels: Vec<_> = metric.labels.iter().map(|label| format!("`{label}`")).collect();
        format!("| `{}` | {kind} | {} | {} |", metric.name, labels.join(", "), metric.help)
    }
}
