//! Flags, signals and exit codes, and the memory's allocator; everything else is in the library.

use std::process::ExitCode;

use leadlane::cli;
use tokio::sync::watch;

/// The desk reads a million records, keeps a few words of each, and lets the rest go, by many threads: what they let go
/// is the machine's again within seconds. The system's own allocator keeps it.
#[global_allocator]
static MEMORY: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    let cli = match cli::parse() {
        Ok(cli) => cli,
        Err(code) => return ExitCode::from(code),
    };
    let json = cli.json();
    let (stop, stopped) = watch::channel(false);
    if let Err(error) = watch_signals(stop) {
        eprintln!("leadlane: signals can't be watched: {error}");
        return ExitCode::from(1);
    }
    match cli::run(cli, stopped) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => ExitCode::from(cli::report(&error, json)),
    }
}

/// The first SIGTERM, SIGINT or SIGHUP asks for a clean stop, the second ends the process at once.
fn watch_signals(stop: watch::Sender<bool>) -> std::io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    std::thread::Builder::new().name("signals".to_owned()).spawn(move || {
        runtime.block_on(async move {
            use tokio::signal::unix::{SignalKind, signal};
            let (Ok(mut terminate), Ok(mut interrupt), Ok(mut hangup)) = (
                signal(SignalKind::terminate()),
                signal(SignalKind::interrupt()),
                signal(SignalKind::hangup()),
            ) else {
                return;
            };
            for asked in 1.. {
                tokio::select! {
                    _ = terminate.recv() => {}
                    _ = interrupt.recv() => {}
                    _ = hangup.recv() => {}
                }
                if asked > 1 {
                    std::process::exit(130);
                }
                stop.send_replace(true);
            }
        });
    })?;
    Ok(())
}
