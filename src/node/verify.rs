//! Checks the data files of a machine that does not run, for `--verify`.

use std::process::ExitCode;

use rm_config::Effective;

/// Prints a line for each file: what is sound to the output, what is not to the errors. All files are checked.
pub(crate) fn verify(config: &Effective) -> ExitCode {
    let results = match rm_actors::verify(config) {
        Ok(results) => results,
        Err(refusal) => {
            eprintln!("raft-machine: {refusal}");
            return ExitCode::FAILURE;
        }
    };
    let mut code = ExitCode::SUCCESS;
    for result in results {
        match result {
            Ok(file) => println!("{}: {} pages, sound", file.path.display(), file.pages),
            Err(refusal) => {
                eprintln!("raft-machine: {refusal}");
                code = ExitCode::FAILURE;
            }
        }
    }
    code
}
