//! The stories, one file each.

mod desired;
mod identity;
mod operator;
mod schema;

use crate::cluster::Cluster;
use crate::failure::Outcome;

/// A story.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Story {
    /// What the API server says to examples of our kinds.
    Schema,
    /// What the API server says to what the operator wants.
    Desired,
    /// What operators make of a mesh and a volume.
    Operator,
    /// Who gets a certificate.
    Identity,
}

/// All of them, in the order in which they are told.
pub const STORIES: &[Story] = &[Story::Schema, Story::Desired, Story::Operator, Story::Identity];

impl Story {
    /// What `--story` calls it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Schema => "schema",
            Self::Desired => "desired",
            Self::Operator => "operator",
            Self::Identity => "identity",
        }
    }

    /// What it shows.
    pub fn about(self) -> &'static str {
        match self {
            Self::Schema => "the API server takes our kinds, and accepts and refuses the examples as they say",
            Self::Desired => "the API server takes what the operator wants for meshes and volumes",
            Self::Identity => "an agent gets a certificate for its own node, and nobody gets another one",
            Self::Operator => {
                "a volume gets replicas and a bound claim, one operator follows another, and nothing goes by absence"
            }
        }
    }

    /// Whether it belongs to a run that names no story.
    pub fn is_quick(self) -> bool {
        match self {
            Self::Schema | Self::Desired | Self::Operator | Self::Identity => true,
        }
    }

    /// Tells it.
    pub async fn tell(self, cluster: &Cluster) -> Outcome<()> {
        match self {
            Self::Schema => schema::tell(cluster).await,
            Self::Desired => desired::tell(cluster).await,
            Self::Operator => operator::tell(cluster).await,
            Self::Identity => identity::tell(cluster).await,
        }
    }
}
