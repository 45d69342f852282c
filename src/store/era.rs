//! Eras of a domain: each begins when one machine is made the only voter by force, and what was before is another domain to it.

use std::{fmt, io, str::FromStr};

use serde::{Deserialize, Serialize};

use crate::origin;

/// The number of an era of a domain, drawn at random when it begins. Machines of different eras share a name and a past, and
/// nothing else: either may have committed what the other never had.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct Era(pub u64);

impl Era {
    /// The era in which every domain begins.
    pub const FIRST: Era = Era(0);

    /// An era that no domain was in before.
    ///
    /// # Errors
    /// The system has no randomness to give.
    pub fn random() -> io::Result<Era> {
        let number = u64::from_le_bytes(origin::random_bytes()?);
        Ok(Era(number.max(1)))
    }
}

impl fmt::Display for Era {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// Why a text names no era.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "an era is named by its 16 hexadecimal digits, as the log and `rmctl info -o json` tell it"
)]
pub struct EraError;

impl FromStr for Era {
    type Err = EraError;

    fn from_str(text: &str) -> Result<Era, EraError> {
        let era = Era(u64::from_str_radix(text, 16).map_err(|_| EraError)?);
        // `from_str_radix` takes a sign, and capitals, which this program never writes.
        if era.to_string() == text {
            Ok(era)
        } else {
            Err(EraError)
        }
    }
}

impl From<Era> for String {
    fn from(era: Era) -> String {
        era.to_string()
    }
}

impl TryFrom<String> for Era {
    type Error = EraError;

    fn try_from(text: String) -> Result<Era, EraError> {
        text.parse()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_era_is_read_as_it_is_written_and_nothing_else_is() {
        let drawn = Era::random().unwrap();
        assert_ne!(drawn, Era::random().unwrap());
        for era in [Era::FIRST, Era(0x2a), Era(u64::MAX), drawn] {
            assert_eq!(era.to_string().parse(), Ok(era));
        }
        for text in [
            "",
            "2a",
            "+00000000000002a",
            "000000000000002A",
            "000000000000002g",
            "0000000000000002a",
        ] {
            assert_eq!(text.parse::<Era>(), Err(EraError), "{text}");
        }
    }
}
