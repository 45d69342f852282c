//! The same question or order to every endpoint at the same time, and what the command comes to when some gave nothing.

use futures::future::join_all;

use crate::client::{Endpoint, Endpoints};
use crate::error::{Error, Result};
use crate::output::print;

/// What each endpoint gave.
pub(crate) struct Everywhere<T> {
    /// What was asked, for the error.
    what: &'static str,
    /// Each endpoint with its answer or why there is none, in the order of the command line.
    pub(crate) answers: Vec<(Endpoint, Result<T>)>,
}

impl<T> Everywhere<T> {
    /// What every endpoint was asked, and gave.
    pub(crate) fn of(what: &'static str, answers: Vec<(Endpoint, Result<T>)>) -> Self {
        Everywhere { what, answers }
    }

    /// Asks every endpoint; one that is down holds up none of the others.
    pub(crate) async fn ask<'a, F>(
        what: &'static str,
        endpoints: &'a Endpoints,
        ask: impl Fn(&'a Endpoint) -> F,
    ) -> Self
    where
        F: Future<Output = Result<T>>,
    {
        let answers = join_all(endpoints.list.iter().map(ask)).await;
        Everywhere {
            what,
            answers: endpoints.list.iter().cloned().zip(answers).collect(),
        }
    }

    /// Whether none answered, so that there is nothing to show but the reasons in the verdict.
    pub(crate) fn is_silent(&self) -> bool {
        self.answers.iter().all(|(_, answer)| answer.is_err())
    }

    /// What the command ends with once the answers are shown.
    ///
    /// # Errors
    /// That of the only endpoint; of several, one that names all that failed.
    pub(crate) fn verdict(self) -> Result<()> {
        let total = self.answers.len();
        let failures = self
            .answers
            .into_iter()
            .filter_map(|(endpoint, answer)| Some((endpoint, answer.err()?)));
        let mut failures: Vec<_> = failures.collect();
        if total == 1 {
            return failures.pop().map_or(Ok(()), |(_, error)| Err(error));
        }
        if failures.is_empty() {
            return Ok(());
        }
        Err(Error::Some {
            what: self.what,
            total,
            failures,
        })
    }
}

impl Everywhere<()> {
    /// Tells which endpoints did as they were told; the verdict names the others.
    ///
    /// # Errors
    /// As [`verdict`](Self::verdict), and a standard output that is closed.
    pub(crate) fn done(self) -> Result<()> {
        let several = self.answers.len() > 1;
        for (endpoint, _) in self.answers.iter().filter(|(_, answer)| answer.is_ok()) {
            if several {
                print(format!("{endpoint} OK").as_bytes())?;
            } else {
                print(b"OK")?;
            }
        }
        self.verdict()
    }
}

#[cfg(test)]
mod tests {
    use tonic::Status;

    use super::*;

    fn endpoint(port: usize) -> Endpoint {
        format!("127.0.0.1:{port}").parse().expect("an endpoint")
    }

    fn unreachable(port: usize) -> Error {
        Error::Unreachable {
            endpoint: endpoint(port),
            reason: "connection refused".to_owned(),
        }
    }

    fn refused(port: usize) -> Error {
        Error::Request {
            what: "log set",
            endpoint: endpoint(port),
            status: Box::new(Status::failed_precondition("no")),
        }
    }

    fn gave(answers: Vec<Result<()>>) -> Everywhere<()> {
        let answers = answers.into_iter().enumerate();
        Everywhere {
            what: "log set",
            answers: answers
                .map(|(number, answer)| (endpoint(number + 1), answer))
                .collect(),
        }
    }

    #[test]
    fn all_that_failed_are_named_with_their_reasons() {
        let verdict = gave(vec![Err(unreachable(1)), Ok(()), Err(refused(3))]).verdict();
        let error = verdict.expect_err("two failed");
        assert_eq!(
            error.to_string(),
            "log set failed at 2 of 3 endpoints:\n  127.0.0.1:1: not reached: connection refused\n  \
             127.0.0.1:3: no (FailedPrecondition)"
        );
    }

    #[test]
    fn one_that_was_not_reached_outweighs_those_that_refused() {
        let exit_code = |answers| {
            gave(answers)
                .verdict()
                .expect_err("some failed")
                .exit_code()
        };
        assert_eq!(exit_code(vec![Ok(()), Err(unreachable(2))]), 3);
        assert_eq!(exit_code(vec![Err(refused(1)), Err(unreachable(2))]), 3);
        assert_eq!(exit_code(vec![Ok(()), Err(refused(2))]), 1);
    }

    #[test]
    fn the_only_endpoint_speaks_for_itself() {
        let error = gave(vec![Err(unreachable(1))]).verdict();
        assert!(matches!(error, Err(Error::Unreachable { .. })));
        assert!(gave(vec![Ok(())]).verdict().is_ok());
    }
}
