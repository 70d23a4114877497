//! What an agent last obeyed, kept on disk: a restart without the API server goes on with it.

use super::directories::replace;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::net::SocketAddr;
use std::path::Path;
use syncmesh_crds::SyncReplica;

/// The file in the state directory.
const FILE: &str = "kubernetes.json";

/// What the API server said.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Said {
    /// The replicas of this node.
    pub replicas: Vec<SyncReplica>,
    /// Where the mesh's agents are, by node.
    pub addresses: BTreeMap<String, SocketAddr>,
}

impl Said {
    /// The same without what changes all the time and isn't obeyed.
    pub fn orders(&self) -> Self {
        let mut orders = self.clone();
        for replica in &mut orders.replicas {
            replica.metadata.managed_fields = None;
            replica.metadata.resource_version = None;
            // Whether it had files decides how its directory begins.
            if let Some(status) = &mut replica.status {
                let data = status.data;
                *status = Default::default();
                status.data = data;
            }
        }
        orders
    }

    /// Reads it from the state directory; none if nothing was ever obeyed.
    ///
    /// # Errors
    /// The file is there and can't be read.
    pub fn load(state: &Path) -> Result<Option<Self>, String> {
        let path = state.join(FILE);
        match fs::read(&path) {
            Ok(text) => {
                serde_json::from_slice(&text).map(Some).map_err(|why| format!("can't read {}: {why}", path.display()))
            }
            Err(why) if why.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(why) => Err(format!("can't read {}: {why}", path.display())),
        }
    }

    /// Writes it.
    ///
    /// # Errors
    /// It can't be written.
    pub fn save(&self, state: &Path) -> Result<(), String> {
        let text = serde_json::to_vec(self).map_err(|why| why.to_string())?;
        replace(state, FILE, &text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kubernetes::status::tests::replica;

    #[test]
    fn what_was_obeyed_survives_and_what_isnt_obeyed_doesnt_count() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(Said::load(dir.path()), Ok(None));
        let mut said = Said { replicas: vec![replica(&["a", "b"])], addresses: BTreeMap::new() };
        said.save(dir.path()).unwrap();
        assert_eq!(Said::load(dir.path()), Ok(Some(said.clone())));
        let orders = said.orders();
        said.replicas[0].metadata.resource_version = Some("9".into());
        assert_eq!(said.orders(), orders);
        std::fs::write(dir.path().join(FILE), "{").unwrap();
        assert!(Said::load(dir.path()).unwrap_err().contains(FILE));
    }
}
