//! The sidecar is killed with SIGKILL while many callers are at work and keys are rotated, rewrapped,
//! shredded and disabled, again and again: whatever was acknowledged is there afterwards, nothing is
//! there twice, and nothing that was erased comes back.
//!
//! `FIELDSEAL_CRASH_KILLS=200` in the environment kills it 200 times instead of 20.

mod changes;
mod checks;
mod damage;
mod load;
mod log;
mod rewrites;
mod told;

use std::collections::HashSet;
use std::io::Write as _;
use std::process::Stdio;

use crate::installation::Installation;
use crate::process::{Lines, Running, event, program, text};
use checks::Found;
use load::Life;
use log::Log;
use rewrites::Caught;
use told::Told;

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
    /// The store was being written anew.
    in_a_rewrite: u32,
    /// Data keys were being moved.
    in_a_rewrap: u32,
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

/// Everything that a run knows.
#[derive(Default)]
struct Known {
    told: Told,
    log: Log,
    moments: Moments,
    found: Found,
}

impl Known {
    /// One life, its kill, the next start, and whether all that it told is there.
    async fn life(&mut self, installation: &mut Installation, number: u32) {
        let life = Life::new(number, installation.sidecar.as_ref().unwrap().0.id());
        let of_life = life.run(installation, &self.told).await;
        installation.sidecar.take().unwrap().0.kill();
        self.moments.in_a_rewrite += u32::from(Caught::at(installation) != Caught::None);
        if number.is_multiple_of(START_TOO) {
            kill_while_it_starts(installation);
        }
        installation.serve();
        self.moments.in_a_rewrap += u32::from(checks::is_rewrapping(installation).await);
        let (_, lines) = installation.sidecar.as_mut().unwrap();
        // Every record is opened, counted, and held against the sum that the log tells.
        let clean = lines.wait(|line| {
            let clean = event("store_scrubbed", line).map(|_| true);
            clean.or_else(|| event("scrub_found", line).map(|_| false))
        });
        let said = lines.so_far();
        assert!(clean, "{said}");
        self.log.read_on(installation).await;
        self.moments.add(&self.log, &of_life, &said);
        // The values of this life; those of earlier ones are looked at again in the end.
        let sealed = of_life.sealed.clone();
        let changed = of_life.fates.known.keys().chain(of_life.fates.asked.keys());
        let changed: Vec<String> = changed.cloned().collect();
        self.told.add(of_life);
        self.found.add(checks::settle(installation, &mut self.told).await);
        self.found.add(checks::keys(installation, &mut self.told).await);
        self.found.add(checks::partitions(installation, &mut self.told, &changed).await);
        self.found.add(checks::values(installation, &self.told, &sealed).await);
        self.found.add(checks::receipts(&self.log, &self.told));
    }

    /// Everything once more, when what goes on by itself has come to its end.
    async fn in_the_end(&mut self, installation: &Installation) {
        self.found.add(checks::rewraps(installation, &self.told).await);
        checks::erased(installation, &self.told).await;
        self.log = Log::default();
        self.log.read_on(installation).await;
        self.log.assert_no_gap();
        let changed: Vec<String> = self.told.fates.known.keys().cloned().collect();
        self.found.add(checks::keys(installation, &mut self.told).await);
        self.found.add(checks::partitions(installation, &mut self.told, &changed).await);
        self.found.add(checks::receipts(&self.log, &self.told));
        self.found.add(checks::data_keys(&self.log, &self.told));
        self.found.add(checks::values(installation, &self.told, &self.told.sealed).await);
    }

    fn report(&self) -> String {
        let Self { told, log, moments, found } = self;
        format!(
            "acknowledged {}, lost {}, duplicated {}, kills {}, of them in the middle of a commit \
             {}; {} starts killed too\n{}\n{} records, {} calls without an answer; {moments:?}",
            told.acknowledged(),
            found.lost.len(),
            found.duplicated.len(),
            kills(),
            moments.in_a_commit,
            kills() / START_TOO,
            told.done,
            log.len(),
            told.unanswered.len(),
        )
    }
}

/// Store and log, looked at from their first to their last record.
fn assert_that_they_agree(installation: &Installation) {
    let verified = installation.verify(&installation.log());
    assert!(verified.status.success(), "{}", text(&verified.stderr));
    let mut doctor = program();
    doctor.arg("doctor").arg("--config").arg(installation.config());
    let seen = doctor.output().unwrap();
    assert!(seen.status.success(), "{}\n{}", text(&seen.stdout), text(&seen.stderr));
}

#[test]
fn whatever_was_acknowledged_survives_every_kill_and_is_there_once() {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let mut installation = Installation::new();
    installation.set("shred_window_least_hours = 24", "shred_window_least_hours = 0");
    installation.serve();
    let mut known = Known::default();
    runtime.block_on(load::keys(&installation, &mut known.told));
    for number in 1..=kills() {
        runtime.block_on(known.life(&mut installation, number));
    }
    runtime.block_on(known.in_the_end(&installation));
    assert_eq!(installation.stop(), 0);
    assert_that_they_agree(&installation);

    let report = known.report();
    // Past the test harness, which keeps to itself what a test that passed has printed.
    writeln!(std::io::stderr(), "{report}").unwrap();
    let Known { told, moments, found, .. } = known;
    assert!(found.lost.is_empty() && found.duplicated.is_empty(), "{report}\n{found:?}");
    let wanted = (ACKNOWLEDGED_PER_KILL * kills() as usize).max(1000);
    assert!(told.acknowledged() >= wanted, "too little load: {report}");
    assert!(told.done.is_enough(kills()), "too few changes: {report}");
    assert!(moments.in_a_commit > 0, "no kill in the middle of a commit: {report}");
    assert!(moments.in_a_rewrap > 0, "no kill in the middle of a rewrap: {report}");
    let values: HashSet<_> = told.sealed.iter().map(|sealed| &sealed.ciphertext).collect();
    assert_eq!(values.len(), told.sealed.len(), "two values have one ciphertext");
}
