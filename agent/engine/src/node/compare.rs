//! Replicas that know the same have the same sums. Where they haven't, somebody made a mistake: it is found, repaired,
//! counted and said.

use super::Node;
use crate::compare::{Answer, Compared, Comparison, Question, Reply};
use crate::connection::{Lane, Phase};
use crate::job::Job;
use crate::limits::{DISPUTED, JOBS, QUESTIONS, RECOUNT};
use crate::publish::{Errand, Item};
use crate::stage::Source;
use syncmesh_core::entry::Entry;
use syncmesh_core::limits::{BLOCK_BYTES, KNOWLEDGE_RANGES};
use syncmesh_core::path::RelativePath;
use syncmesh_core::summary::digest;
use syncmesh_core::version::Knowledge;
use syncmesh_io::Io;
use syncmesh_protocol::message::{Compare, Message, Part};

/// At its limit knowledge says less than there is, and two that look equal may not be.
fn is_exact(knowledge: &Knowledge) -> bool {
    knowledge.ranges() < KNOWLEDGE_RANGES
}

impl<I: Io> Node<I> {
    /// Compares our sums with what peers told of theirs. That needs no messages: they tell whenever they know more, or
    /// their sum changes. Only what differs is talked about.
    pub(super) fn tend_comparisons(&mut self, now: u64) {
        if self.stopping.is_some() {
            return;
        }
        let (mut suspicious, mut settled) = (Vec::new(), Vec::new());
        for connection in self.connections.values_mut().filter(|connection| connection.phase == Phase::Ready) {
            let Some(peer) = connection.peer.as_deref() else { continue };
            for (&number, link) in &mut connection.links {
                let Some(volume) = self.volumes.get(&number).filter(|volume| !volume.stands_still()) else { continue };
                let comparing = &mut link.comparing;
                let known = &volume.state.knowledge;
                let other = comparing.told.as_ref().filter(|(_, sum)| *sum != volume.state.sum);
                let Some((_, sum)) = other.filter(|(theirs, _)| theirs == known && is_exact(known)) else {
                    if comparing.differs {
                        settled.push(number);
                    }
                    comparing.settle();
                    continue;
                };
                let sum = *sum;
                comparing.differs = true;
                if comparing.again.is_some_and(|again| again > now) {
                    continue;
                }
                self.counters.sum_differences += 1;
                tracing::error!(
                    volume = %volume.name, %peer, ours = %volume.state.sum, theirs = %sum,
                    "the peer knows the same versions, and yet its files differ: looking for the difference, please report this"
                );
                comparing.later(now, self.io.random());
                comparing.repairs = 0;
                suspicious.push(number);
                // One of the two looks.
                if self.node.as_str() < peer {
                    let parts = vec![Part { upto: None, sum }];
                    let whole = Compare { knowledge: digest(known), after: None, parts };
                    comparing.questions.push_front(Question::Parts(whole));
                }
            }
        }
        for number in settled {
            if let Some(volume) = self.volumes.get_mut(&number) {
                volume.disputed.clear();
            }
        }
        for number in suspicious {
            if let Some(volume) = self.volumes.get_mut(&number) {
                volume.recount.due = Some(now);
            }
        }
        self.start_comparisons(now);
    }

    fn start_comparisons(&mut self, now: u64) {
        let mut jobs = Vec::new();
        for volume in self
            .volumes
            .values_mut()
            .filter(|volume| !volume.stands_still() && volume.recount.due.is_some_and(|due| due <= now))
        {
            if !volume.recount.running && self.jobs_running + jobs.len() < JOBS {
                volume.recount.running = true;
                volume.recount.due = None;
                jobs.push(Job::Compare(Comparison {
                    volume: volume.number,
                    session: None,
                    knowledge: digest(&volume.state.knowledge),
                    question: Question::Total,
                }));
            }
        }
        for (&session, connection) in &mut self.connections {
            let waiting = connection.waiting(Lane::Bulk);
            for (&number, link) in &mut connection.links {
                let Some(volume) = self.volumes.get(&number).filter(|volume| volume.unsynced.is_none()) else {
                    continue;
                };
                let comparing = &mut link.comparing;
                // An answer adds a few frames to those that wait.
                let busy = comparing.running || waiting > 4 * BLOCK_BYTES as usize;
                if busy || self.jobs_running + jobs.len() >= JOBS {
                    continue;
                }
                let Some(question) = comparing.questions.pop_front() else { continue };
                let knowledge = digest(&volume.state.knowledge);
                let asked = match &question {
                    Question::Parts(compare) => compare.knowledge,
                    Question::Rows(rows) => rows.knowledge,
                    Question::Total => knowledge,
                };
                if asked != knowledge {
                    comparing.questions.clear();
                    continue;
                }
                comparing.running = true;
                jobs.push(Job::Compare(Comparison { volume: number, session: Some(session), knowledge, question }));
            }
        }
        jobs.into_iter().for_each(|job| self.start(job));
    }

    /// A peer's sums differ from ours.
    pub(super) fn asked(&mut self, session: u64, number: u16, question: Question) {
        let link = self.connections.get_mut(&session).and_then(|connection| connection.links.get_mut(&number));
        if let Some(link) = link
            && link.comparing.questions.len() < QUESTIONS
        {
            link.comparing.questions.push_back(question);
        }
    }

    /// Rows were counted, or compared with a peer's.
    pub(super) fn compared(&mut self, compared: Compared) {
        let now = self.io.now();
        let Compared { volume: number, session, knowledge, answer } = compared;
        let Some(volume) = self.volumes.get_mut(&number) else { return };
        // What was recorded meanwhile may be in it or not.
        let counts = digest(&volume.state.knowledge) == knowledge;
        match answer {
            Answer::Total(sum) => {
                volume.recount.running = false;
                let (soon, rarely) = RECOUNT;
                let wait = if counts { rarely } else { soon };
                volume.recount.due.get_or_insert(now + wait.as_nanos() as u64);
                if counts && sum != volume.state.sum {
                    tracing::error!(
                        volume = %volume.name, kept = %volume.state.sum, counted = %sum,
                        "the registry's rows aren't those that were recorded: comparing them with the peers', please report this"
                    );
                    self.counters.sum_differences += 1;
                    volume.state.sum = sum;
                    self.epoch.used = true;
                }
            }
            Answer::Differences { replies, theirs } => {
                let Some(connection) = session.and_then(|session| self.connections.get_mut(&session)) else { return };
                let Some(link) = connection.links.get_mut(&number) else { return };
                link.comparing.running = false;
                if !counts || connection.phase != Phase::Ready {
                    return;
                }
                let told_rows = replies.iter().filter(|reply| matches!(reply, Reply::Rows(_))).count();
                link.comparing.repairs += told_rows;
                if told_rows > 0 || !theirs.is_empty() {
                    link.comparing.progress();
                }
                for reply in replies {
                    let message = match reply {
                        Reply::Parts(compare) => Message::Compare(compare),
                        Reply::Rows(rows) => Message::Rows(rows),
                        Reply::Repair(repair) => Message::Repair(repair),
                    };
                    connection.send(Lane::Bulk, number, &message);
                    self.counters.frames_sent += 1;
                }
                let peer = connection.peer.clone().unwrap_or_default();
                self.repair(number, &peer, theirs);
            }
        }
    }

    /// The peer's answer to rows of ours that it has otherwise, or lacks.
    pub(super) fn repair_message(&mut self, session: u64, number: u16, rows: Vec<(RelativePath, Entry)>) {
        let Some(connection) = self.connections.get_mut(&session) else { return };
        let Some(link) = connection.links.get_mut(&number) else { return };
        // Only as many as were asked for: they cost no credit.
        let Some(left) = link.comparing.repairs.checked_sub(1) else { return };
        link.comparing.repairs = left;
        let peer = connection.peer.clone().unwrap_or_default();
        self.repair(number, &peer, rows);
    }

    /// Rows of a peer that ours must include, although our knowledge says that they do.
    fn repair(&mut self, number: u16, peer: &str, rows: Vec<(RelativePath, Entry)>) {
        let Some(volume) = self.volumes.get_mut(&number) else { return };
        for (path, entry) in rows {
            let Some((directory, name)) = path.split() else { continue };
            tracing::error!(
                volume = %volume.name, %path, %peer,
                "the peer knows this path otherwise, and nobody wrote it since: both versions are joined, please report this"
            );
            // The second time reading the files has told nothing: both are what their rows say.
            let is_first = volume.disputed.len() < DISPUTED && volume.disputed.insert(path.clone());
            let errand = if is_first { Errand::Repair } else { Errand::New };
            volume.problem(path, format!("differs from {peer}'s although nobody wrote it since; being repaired"));
            volume.differences += 1;
            self.counters.repaired_paths += 1;
            let item = Item { name, entry, source: Source::None, stream: None, errand };
            volume.queue(directory, item);
        }
    }
}
