//! `quickstart`: the whole job once, with a real sidecar in a process of its own. Every value that
//! is shown was computed in this run.

mod place;
mod proof;
mod sidecar;
mod steps;

use std::net::SocketAddr;
use std::time::Duration;

use fieldseal_policy::Role;

use crate::arguments::QuickstartArguments;
use crate::connection::{environment, quoted_path};
use crate::failure::Failure;
use crate::installation::{self, Created, Plan};
use crate::output::{self, Output};
use crate::signals::{StopSignals, interrupted};

use place::Place;
use sidecar::Sidecar;
use steps::Callers;

/// How long the sidecar may take until it can serve.
const START_WITHIN: Duration = Duration::from_secs(60);

/// What is left when a signal ends it.
const STOPPED: &str = "the sidecar does not run any more";
/// Times that a port is looked for, if another process takes it first.
const PORTS: usize = 5;

/// Runs `quickstart`.
pub(crate) async fn run(arguments: QuickstartArguments, output: &Output) -> Result<(), Failure> {
    if output.is_json() {
        let what = "quickstart is for people and has no JSON form";
        return Err(Failure::usage("OUTPUT_FORM_UNSUPPORTED", what));
    }
    let mut signals = StopSignals::listen_with_hangup()?;
    let place = Place::claim(&arguments.dir)?;
    say(&format!("fieldseal quickstart, in {}", place.dir.display()))?;
    let (made, mut sidecar) = tokio::select! {
        biased;
        () = signals.received() => return Err(interrupted(STOPPED)),
        begun = begin(&place) => begun?,
    };
    let (pid, address) = (sidecar.pid(), sidecar.address());
    // Whoever interrupts it may reach the sidecar too; that the sidecar ended is not the news then.
    let shown = tokio::select! {
        biased;
        () = signals.received() => Err(interrupted(STOPPED)),
        shown = show(&place, &made, pid, address) => shown,
        ended = sidecar.ended() => Err(ended),
    };
    let stopped = sidecar.stop(&mut signals).await;
    shown?;
    say(&format!("\n8  The sidecar stopped cleanly\n   exit code   {}", stopped?))?;
    say(&farewell(&place, &made))
}

fn say(text: &str) -> Result<(), Failure> {
    output::bytes(format!("{text}\n").as_bytes())
}

/// Steps 1 and 2. The environment files name the address that the sidecar has at last.
async fn begin(place: &Place) -> Result<(Created, Sidecar), Failure> {
    let made = make(place).await?;
    let mut left = PORTS;
    let sidecar = loop {
        left -= 1;
        match Sidecar::start(place, &made).await {
            Err(failure) if failure.reason() == sidecar::ADDRESS_UNAVAILABLE && left > 0 => {
                sidecar::listen_on(&made.config(), sidecar::free_address()?)?;
            }
            started => break started?,
        }
    };
    for caller in Callers::NAMES {
        let settings = made.client(caller, sidecar.address());
        place.write_environment(caller, &environment(&settings))?;
    }
    Ok((made, sidecar))
}

/// Step 1: development certificates, installation, configuration, policy, and the table to seal.
async fn make(place: &Place) -> Result<Created, Failure> {
    let mut plan = Plan::new(place.installation(), sidecar::free_address()?)
        .with_dev_caller("app", &[Role::App])?
        .with_dev_caller("ops", &[Role::Operator])?
        .with_dev_caller("auditor", &[Role::Auditor])?;
    plan.probes = installation::ANY_PORT;
    plan.address_file = Some("address".to_owned());
    plan.settings.push(("audit.segment_mib", "4".to_owned()));
    let made = installation::create(&plan).await?;
    place.write_table()?;
    say(&format!(
        "\n1  An installation\n   id          {}\n   config      {}\n   policy      {}\n   callers     \
         app, ops, auditor: ECDSA P-256 certificates of a development CA\n   recovery    {} (its \
         identity was made for this run and dropped)",
        made.installation,
        made.config().display(),
        made.dir.join("policy").display(),
        made.recovery_recipient,
    ))?;
    Ok(made)
}

/// Says that step 2 is done, and does steps 3 to 7.
async fn show(place: &Place, made: &Created, pid: u32, address: SocketAddr) -> Result<(), Failure> {
    let log = place.log();
    say(&format!(
        "\n2  The sidecar runs\n   process     {pid}\n   address     {address}\n   log lines   {}",
        log.display()
    ))?;
    let mut callers = Callers::connect(made, address).await?;
    say(&callers.create_key().await?)?;
    say(&callers.seal_table(place).await?)?;
    let (text, sealed) = callers.read_and_rotate(place).await?;
    say(&text)?;
    say(&callers.refusals(made, address, &sealed).await?)?;
    let listed = callers.list_decrypts().await?;
    say(&listed)?;
    say(&proof::verify_and_tamper(place, made)?)
}

fn farewell(place: &Place, made: &Created) -> String {
    let program = std::env::current_exe().unwrap_or_else(|_| "fieldseal".into());
    let program = quoted_path(&program);
    let env = |caller: &str| quoted_path(&place.environment(caller));
    format!(
        "\nGo on with\n  {program} serve --config {} &\n  . {} && printf 'ada@example.com' | {program} \
         encrypt --key customer-pii --table customers --column email --row 1\n  . {} && {program} \
         audit list",
        quoted_path(&made.config()),
        env("app"),
        env("auditor"),
    )
}
