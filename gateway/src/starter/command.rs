//! How the program is started once more, to be another of the gateway's processes.

use std::{
    os::unix::process::CommandExt,
    process::{Command, Stdio},
};

/// This program as `process`, with nothing of the caller's environment, directory, streams and terminal.
pub(crate) fn own_program(process: &str) -> Command {
    let mut command = Command::new("/proc/self/exe");
    command
        .arg0("tacit")
        .arg(process)
        .env_clear()
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        // Ctrl-C at a terminal is for control, which then ends the others in good order.
        .process_group(0);
    #[cfg(feature = "unsealed")]
    command.envs(tacit_seal::is_left_out().then_some((tacit_seal::left_out::VARIABLE, "1")));
    #[cfg(feature = "misbehave")]
    command.envs(std::env::var_os("TACIT_MISBEHAVE").map(|attempt| ("TACIT_MISBEHAVE", attempt)));
    command
}
