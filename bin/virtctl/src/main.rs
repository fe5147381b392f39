//! virtctl: control virtual machines.

use std::process::ExitCode;

fn main() -> ExitCode {
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            use std::io::Write;
            let _ = writeln!(std::io::stderr(), "cannot start: {error}");
            return ExitCode::FAILURE;
        }
    };
    let code = runtime.block_on(fv_ctl::run());
    // A thread that waits for the terminal's next key must not keep the program.
    runtime.shutdown_background();
    code
}
