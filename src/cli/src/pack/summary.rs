//! `summary.html`: for people. It loads nothing, runs nothing and fits on paper.

use std::ops::Range;

use fieldseal_audit::verify::Times;

use super::chart::Chart;
use super::facts::Facts;
use super::html::escape;
use super::inventory::Inventory;
use super::policies::Files;
use super::tables::{self, moment};
use crate::output::{counted, grouped};

const STYLE: &str = include_str!("summary.css");
/// What is proved, what is not, and what words mean.
const WORDS: &str = include_str!("words.html");

/// What the page is made of.
pub(super) struct Summary<'a> {
    pub(super) origin: &'a str,
    pub(super) times: &'a Times,
    pub(super) records: Range<u64>,
    pub(super) tree_size: u64,
    /// In hexadecimal digits.
    pub(super) root: String,
    pub(super) facts: &'a Facts,
    pub(super) policies: &'a [Files],
    pub(super) keys: Option<&'a Inventory>,
}

impl Summary<'_> {
    /// The whole page.
    pub(super) fn page(&self) -> String {
        let facts = self.facts;
        let sections = [
            self.head(),
            self.chart(),
            section(
                "Who read what",
                "Each caller and each field that it asked for. A field is one value of one row; a batch \
                 has many. Sealing is recorded only under keys that say so.",
                &tables::access(&facts.access),
            ),
            section(
                "Why",
                "What callers stated as the purpose of decrypts. Nobody but the caller vouches for it.",
                &tables::purposes(&facts.purposes),
            ),
            section(
                "What was refused",
                "Calls of every kind that policy refused. Without a rule, none permitted it and none \
                 forbade it by name.",
                &tables::refusals(&facts.refusals),
            ),
            section(
                "What was changed",
                &format!(
                    "Keys and their versions, partitions, policy, root key, backups. The sidecar \
                     started {} and stopped in an orderly way {}.",
                    counted(facts.starts, "time"),
                    counted(facts.stops, "time"),
                ),
                &tables::changes(&facts.changes, facts.change_count),
            ),
            section(
                "Who read this log",
                "Questions that were asked of the audit log are on record like all other calls.",
                &tables::readers(&facts.readers),
            ),
            section(
                "Policies in force",
                "Which rules decided from which record on. The digest is that of docs/audit-log.md; \
                 where the files are included, verify.py computes it from them.",
                &tables::in_force(&facts.policies, self.policies),
            ),
            section(
                "Settings and certificates",
                "With what the sidecar started, and later what was not as at the start before: the digest \
                 of all settings, which fieldseal config check prints, those that are told by name, the \
                 server's certificate, and the authorities of its callers.",
                &tables::configured(&facts.configured),
            ),
            self.keys(),
            WORDS.to_owned(),
        ];
        format!(
            "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
             <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; \
             style-src 'unsafe-inline'\">\n\
             <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
             <meta name=\"referrer\" content=\"no-referrer\">\n\
             <title>Audit evidence: {}</title>\n<style>\n{STYLE}</style>\n</head>\n<body>\n{}\
             <footer>Made by fieldseal {}. Times are UTC. This page is a reading aid: the records \
             are in records.bin and records.csv, and verify.py proves those.</footer>\n</body>\n\
             </html>\n",
            escape(self.origin),
            sections.concat(),
            env!("CARGO_PKG_VERSION"),
        )
    }

    fn head(&self) -> String {
        let until = self.times.until.map(moment);
        let until =
            until.map_or_else(|| "the end of the log".to_owned(), |at| format!("before {at}"));
        let (first, last) = (self.records.start, self.records.end.saturating_sub(1));
        let span = self.facts.times.map(|(first, last)| (moment(first), moment(last)));
        let (begin, end) = span.unwrap_or_default();
        format!(
            "<header>\n<p class=\"kind\">Audit evidence</p>\n<h1>Who read which encrypted fields</h1>\n\
             <p class=\"lead name\">{}</p>\n</header>\n\
             <dl class=\"scope\">\n<dt>Asked for</dt><dd>from {} until {} (UTC)</dd>\n\
             <dt>Found</dt><dd>{} in that time, the first at {begin}, the last at {end}</dd>\n\
             <dt>Records</dt><dd>{} to {} of a log of {}, with none left out between them</dd>\n\
             <dt>Root of the log</dt><dd class=\"name\">{}</dd>\n</dl>\n{}{}",
            escape(self.origin),
            moment(self.times.since),
            until,
            counted(self.facts.records, "record"),
            grouped(first),
            grouped(last),
            counted(self.tree_size, "record"),
            self.root,
            self.verdict(),
            self.figures(),
        )
    }

    fn verdict(&self) -> String {
        let redacted = self.facts.redacted;
        let (class, told) = match redacted {
            0 => ("verdict", "Every record in scope is whole.".to_owned()),
            _ => (
                "verdict redacted",
                format!(
                    "Personal detail of {} in scope was redacted, and records of the log say so. Who \
                     called, when and for which columns, still stands; fields whose detail is gone are \
                     counted once for each column of their record, or not at all.",
                    counted(redacted, "record")
                ),
            ),
        };
        format!(
            "<div class=\"{class}\">\n<p><b>The whole log verified when this archive was made.</b> \
             {told}</p>\n<p>Do not believe that; check it, with a program and a public key that came to \
             you another way:</p>\n<pre><code>python3 -I /path/to/verify.py --public-key \
             /path/to/log.pub .</code></pre>\n\
             <p>It prints the figures below from the proved records. If they differ, this page was \
             altered.</p>\n</div>\n"
        )
    }

    fn figures(&self) -> String {
        let facts = self.facts;
        let figures = [
            ("records", facts.records, false),
            ("fields read", facts.read, false),
            ("callers", facts.callers.len() as u64, false),
            ("fields refused", facts.refused, true),
            ("fields failed", facts.failed, true),
            ("calls refused", facts.calls_refused, true),
            ("records redacted", facts.redacted, true),
            ("changes", facts.change_count, false),
        ];
        let figure = |(name, number, is_bad): &(&str, u64, bool)| {
            let class = if *is_bad && *number > 0 { " class=\"bad\"" } else { "" };
            format!("<li{class}><b>{}</b><span>{name}</span></li>\n", grouped(*number))
        };
        let figures: String = figures.iter().map(figure).collect();
        format!("<ul class=\"figures\">\n{figures}</ul>\n")
    }

    fn chart(&self) -> String {
        let Some(chart) = Chart::new(&self.facts.hours) else {
            return section("When", "Nothing was decrypted in this time.", "");
        };
        let drawn = format!(
            "<figure>\n{}<p class=\"key\"><i class=\"read\"></i>read<i class=\"not\"></i>refused or \
             failed</p>\n</figure>\n",
            chart.svg()
        );
        section("When", &format!("Fields of decrypts for each {}.", chart.each), &drawn)
    }

    fn keys(&self) -> String {
        let title = "Keys";
        match self.keys {
            None => section(title, "No inventory of keys was asked for (--with-keys).", ""),
            Some(inventory) => section(
                title,
                &format!(
                    "As the running sidecar told at {}. The log does not prove this list; what \
                     happened to keys is among the changes.",
                    moment(inventory.at)
                ),
                &tables::keys(inventory),
            ),
        }
    }
}

/// A part of the page; its texts are this program's own.
fn section(title: &str, lead: &str, body: &str) -> String {
    format!("<section>\n<h2>{title}</h2>\n<p class=\"lead\">{lead}</p>\n{body}</section>\n")
}
