//! Why a lane can't go on.

use crate::rollout::Deployed;

/// What ends a lane, and halts its route with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Halt {
    /// Names the place and the remedy.
    pub message: String,
    /// Where the module is at fault: [`Deployed::number`] of what the lane ran. `None`: no module changes anything, an operator must act.
    pub module: Option<u64>,
}

impl Halt {
    /// The module is at fault that runs under this number.
    pub(crate) fn of_module(number: u64, what: &str) -> Self {
        Self { message: format!("{what}. The route goes on by itself as soon as it runs another module"), module: Some(number) }
    }

    /// Whether another module runs by now.
    pub(crate) fn is_lifted_by(&self, deployed: &Deployed) -> bool {
        self.module.is_some_and(|number| number < deployed.since)
    }

    /// Of two halts of a route the one that is lifted last.
    pub(crate) fn or_later(self, other: Self) -> Self {
        match (self.module, other.module) {
            (None, _) => self,
            (Some(number), Some(others)) if number > others => self,
            (Some(_), _) => other,
        }
    }
}

impl From<String> for Halt {
    fn from(message: String) -> Self {
        Self { message, module: None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_halt_that_is_lifted_last_counts() {
        let operator = || Halt::from("mend MySQL".to_owned());
        let module = |number| Halt::of_module(number, "it fails");
        assert_eq!(operator().or_later(module(1)), operator());
        assert_eq!(module(1).or_later(operator()), operator());
        assert_eq!(module(1).or_later(module(2)), module(2));
        assert_eq!(module(2).or_later(module(1)), module(2));
    }
}
