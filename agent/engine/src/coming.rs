//! Volumes that come while the agent runs. Their directories are opened on a thread of their own: a file system may take its time, or
//! hang, and the volumes that are there go on.

use crate::ask::Configured;
use crate::node::{LeftOut, Node};
use crate::run::{NoStart, Unopened, comes, tuning, volume};
use crate::start::open_new;
use crate::threads::Workers;
use crate::volume::Volume;
use crossbeam_channel::{Receiver, Sender};
use syncmesh_config::Config;
use syncmesh_io::Io;

/// A configuration that is in force once its new volumes are open.
pub struct Coming {
    config: Config,
    reply: Sender<Result<Configured, String>>,
    opened: Receiver<Vec<Result<Volume, NoStart>>>,
}

impl Coming {
    /// Opens the volumes that only `new` has. The registry knows none of them: one that was closed is opened by a start, which recovers
    /// what it was left with.
    pub fn begin<I: Io>(
        node: &mut Node<I>,
        workers: &Workers,
        old: &Config,
        new: Config,
        reply: Sender<Result<Configured, String>>,
    ) -> Self {
        let comes: Vec<_> = comes(old, &new).cloned().collect();
        let (first, random) = (node.free_number(), node.io().random());
        let (name, now) = (new.node.to_string(), node.io().wall() / 1_000_000);
        let opened = workers.aside("open", move |context| {
            let open = |(number, config): (u16, syncmesh_config::Volume)| {
                let spec = volume(&config)?;
                let opened = open_new(context, &spec, &name, number, random, now);
                opened.map_err(|why| NoStart::Volume { name: spec.name, why })
            };
            (first..).zip(comes).map(open).collect()
        });
        Self { config: new, reply, opened }
    }

    /// Takes the volumes in, if they are open or can't be opened, and answers whoever asked. Is it done?
    pub fn end<I: Io>(&self, node: &mut Node<I>, config: &mut Config, unopened: Unopened) -> bool {
        let Ok(opened) = self.opened.try_recv() else { return false };
        // An asker that has gone doesn't want to know.
        drop(self.reply.try_send(self.take_in(node, config, opened, unopened)));
        true
    }

    fn take_in<I: Io>(
        &self,
        node: &mut Node<I>,
        config: &mut Config,
        opened: Vec<Result<Volume, NoStart>>,
        unopened: Unopened,
    ) -> Result<Configured, String> {
        let (mut volumes, mut left_out) = (Vec::new(), Vec::new());
        for outcome in opened {
            match outcome {
                Ok(volume) => volumes.push(volume),
                Err(NoStart::Volume { name, why }) => left_out.push(LeftOut { name, why }),
                Err(NoStart::Agent(why)) => return Err(why),
            }
        }
        if let (Some(LeftOut { name, why }), Unopened::IsRefused) = (left_out.first(), unopened) {
            let why = format!("volume {name}: {why}. The agent goes on by the configuration before");
            volumes.into_iter().for_each(|volume| node.lay_aside(volume));
            return Err(why);
        }
        volumes.into_iter().for_each(|volume| node.admit(volume));
        *config = self.config.clone();
        config.volumes.retain(|volume| left_out.iter().all(|left| left.name != volume.name.as_str()));
        node.configure(tuning(config));
        left_out.into_iter().for_each(|left| node.unopened(left));
        Ok(Configured::InForce)
    }
}
