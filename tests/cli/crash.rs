//! The sidecar is killed with SIGKILL while many callers are at work, again and again: whatever was
//! acknowledged is there afterwards, and nothing is there twice.
//!
//! `FIELDSEAL_CRASH_KILLS=200` in the environment kills it 200 times instead of 20.

mod checks;
mod load;
mod log;

use std::collections::HashSet;
use std::io::Write as _;
use std::process::Stdio;

use crate::installation::Installation;
use crate::process::{Lines, Running, text};
use checks::Found;
use load::{Life, Told};
use log::Log;

const KILLS: u32 = 20;
/// Fewer acknowledgements than this for each kill are too little load.
const ACKNOWLEDGED_PER_KILL: usize = 50;

/// After each so many kills the next start is killed as well, while it settles what it found.
const START_TOO: u32 = 3;

fn kill_while_it_starts(installation: &Installation) {
    let mut command = installation.serve_command();
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    let mut running = Running::new(&mut command);
    let mut lines = Lines::of(running.child().stderr.take().unwrap());
    lines.wait(|line| line.contains("audit_log_opened").then_some(()));
    running.kill();
}

fn kills() -> u32 {
    std::env::var("FIELDSEAL_CRASH_KILLS").map_or(KILLS, |kills| kills.parse().unwrap())
}

/// What the state of the files said about the moments of the kills.
#[derive(Debug, Default)]
struct Moments {
    /// A frame was in the log, and none of the calls in it had been answered.
    untold_frame: u32,
    /// The end of the log was no whole frame.
    torn_frame: u32,
    /// A change was in the store, and its record was not in the log yet.
    between_store_and_log: u32,
    /// At least one of these.
    in_a_commit: u32,
}

impl Moments {
    fn add(&mut self, log: &Log, told: &Told, said: &str) {
        let untold = log.ends_with_a_frame_that_nobody_was_told_of(told);
        let torn = said.contains("torn_bytes: ") && !said.contains("torn_bytes: 0 ");
        let between = log.has_changes_that_a_start_recorded(told);
        self.untold_frame += u32::from(untold);
        self.torn_frame += u32::from(torn);
        self.between_store_and_log += u32::from(between);
        self.in_a_commit += u32::from(untold || torn || between);
    }
}

#[test]
fn whatever_was_acknowledged_survives_every_kill_and_is_there_once() {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let mut installation = Installation::served();
    let (mut told, mut log) = (Told::default(), Log::default());
    let (mut moments, mut found) = (Moments::default(), Found::default());
    runtime.block_on(load::keys(&installation, &mut told));
    for number in 1..=kills() {
        let life = Life::new(number, installation.sidecar.as_ref().unwrap().0.id());
        let of_life = runtime.block_on(life.run(&installation, &told));
        installation.sidecar.take().unwrap().0.kill();
        if number % START_TOO == 0 {
            kill_while_it_starts(&installation);
        }
        installation.serve();
        let (_, lines) = installation.sidecar.as_mut().unwrap();
        let said = lines.so_far();
        runtime.block_on(log.read_on(&installation));
        moments.add(&log, &of_life, &said);
        // The values of this life; those of earlier ones are looked at again in the end.
        found.add(runtime.block_on(checks::values(&installation, &of_life.sealed)));
        told.add(of_life);
        found.add(checks::receipts(&log, &told));
        found.add(runtime.block_on(checks::keys(&installation, &told)));
    }
    let mut log = Log::default();
    runtime.block_on(log.read_on(&installation));
    log.assert_no_gap();
    found.add(checks::receipts(&log, &told));
    found.add(checks::data_keys(&log, &told));
    found.add(runtime.block_on(checks::values(&installation, &told.sealed)));
    assert_eq!(installation.stop(), 0);
    let verified = installation.verify(&installation.log());
    assert!(verified.status.success(), "{}", text(&verified.stderr));

    let acknowledged = told.acknowledged();
    let report = format!(
        "acknowledged {acknowledged}, lost {}, duplicated {}, kills {}, of them in the middle of a \
         commit {}; {} starts killed too\n{} records, {} calls without an answer; {moments:?}",
        found.lost.len(),
        found.duplicated.len(),
        kills(),
        moments.in_a_commit,
        kills() / START_TOO,
        log.len(),
        told.unanswered.len(),
    );
    // Past the test harness, which keeps to itself what a test that passed has printed.
    writeln!(std::io::stderr(), "{report}").unwrap();
    assert!(found.lost.is_empty() && found.duplicated.is_empty(), "{report}\n{found:?}");
    let wanted = (ACKNOWLEDGED_PER_KILL * kills() as usize).max(1000);
    assert!(acknowledged >= wanted, "too little load: {report}");
    assert!(moments.in_a_commit > 0, "no kill in the middle of a commit: {report}");
    let values: HashSet<_> = told.sealed.iter().map(|sealed| &sealed.ciphertext).collect();
    assert_eq!(values.len(), told.sealed.len(), "two values have one ciphertext");
}
