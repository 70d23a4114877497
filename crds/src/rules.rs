//! Rules in CEL that several kinds have, each with the sentence that a user reads when it refuses.

use crate::limits;
use crate::schema::LABEL;
use crate::units::DURATION;
use kube::core::Rule;

/// The field never changes, is never added and never removed. It stands at the field's parent, because a rule on the field
/// itself isn't asked when the field comes or goes.
pub fn fixed(field: &str) -> Rule {
    let rule =
        format!("has(self.{field}) == has(oldSelf.{field}) && (!has(self.{field}) || self.{field} == oldSelf.{field})");
    let message = format!("{field} can't be changed: make a new object with the {field} that you want");
    Rule::new(rule).message(&*message)
}

// A text that can't be converted would end a rule in an error of its own, beside the one that says what to write.

/// The object's own name is one that fits into other names.
pub fn short_name() -> Rule {
    let most = limits::NAME;
    let message = format!(
        "the name may have up to {most} characters, lower case letters, digits and '-', which neither begins nor ends it: choose another one"
    );
    Rule::new(format!("size(self.metadata.name) <= {most} && self.metadata.name.matches('{LABEL}')")).message(&*message)
}

/// The size, where it is given, is not below `least`.
pub fn at_least(field: &str, least: &str) -> Rule {
    let message = format!("{field} is at least {least}: write more");
    Rule::new(format!(
        "!has(self.{field}) || !isQuantity(self.{field}) || quantity(self.{field}).compareTo(quantity('{least}')) >= 0"
    ))
    .message(&*message)
}

/// The size doesn't shrink and isn't taken away. It may come later.
pub fn grows(field: &str) -> Rule {
    let message = format!("{field} can grow and never shrink: write at least what it was");
    Rule::new(format!(
        "!has(oldSelf.{field}) || !isQuantity(oldSelf.{field}) \
         || (has(self.{field}) && isQuantity(self.{field}) && quantity(self.{field}).compareTo(quantity(oldSelf.{field})) >= 0)"
    ))
    .message(&*message)
}

/// The duration, where it is given, lies between two, both included.
pub fn lasts(field: &str, least: &str, most: &str) -> Rule {
    let message = format!("{field} lies between {least} and {most}: write another duration");
    Rule::new(format!(
        "!has(self.{field}) || !self.{field}.matches('^({DURATION})$') || (duration(self.{field}) >= duration('{least}') && duration(self.{field}) <= duration('{most}'))"
    ))
    .message(&*message)
}
