//! Checks of the repository that cargo itself doesn't make. Each takes what was read and returns complaints; an empty
//! list is a pass.

mod allowed;
pub mod duplicates;
pub mod layers;
pub mod licences;
pub mod links;
pub mod named_tests;
pub mod reasons;
pub mod sources;

pub use allowed::Allowed;
