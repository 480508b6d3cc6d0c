//! Which resource of a CloudFormation stack waits for this host.
//!
//! Written as `STACK/RESOURCE`: the stack's name and the resource's logical id in the template.

use std::fmt;

use super::fault::Expected;

/// A resource of a stack.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StackSignal {
    pub stack: String,
    /// The logical id: letters and digits.
    pub resource: String,
}

impl fmt::Display for StackSignal {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}/{}", self.stack, self.resource)
    }
}

/// Reads a stack and a resource.
///
/// # Errors
///
/// Anything else.
pub fn stack_signal(text: &str) -> Result<StackSignal, Expected> {
    const SIGNAL: Expected =
        Expected::fixed("the name of a stack and the logical id of a resource such as \"maps/Hosts\"");
    let (stack, resource) = text.split_once('/').ok_or(SIGNAL)?;
    let is_name = |c: char| c.is_ascii_alphanumeric() || c == '-';
    let is_stack = (1..=128).contains(&stack.len())
        && stack.starts_with(|c: char| c.is_ascii_alphabetic())
        && stack.chars().all(is_name);
    let is_resource =
        (1..=255).contains(&resource.len()) && resource.chars().all(|c| c.is_ascii_alphanumeric());
    match is_stack && is_resource {
        true => Ok(StackSignal { stack: stack.to_owned(), resource: resource.to_owned() }),
        false => Err(SIGNAL),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stack_and_a_resource_are_read_and_shown_alike() {
        for text in ["maps/Hosts", "maps-prod-2/Hosts7"] {
            assert_eq!(stack_signal(text).expect("right").to_string(), text);
        }
        for text in ["", "maps", "maps/", "/Hosts", "2maps/Hosts", "maps/Ho-sts", "maps/Hosts/x", "m s/Hosts"]
        {
            assert!(stack_signal(text).is_err(), "{text}");
        }
    }
}
