//! Threads of a real agent: workers that run jobs, one more that ends epochs, one for each sync while it lasts. The loop hands
//! them jobs through bounded queues and is woken when outcomes wait.

use crate::job::{Context, Done, Job};
use crate::limits::JOBS;
use crossbeam_channel::{Receiver, Sender, bounded};
use std::sync::Arc;
use std::thread::JoinHandle;
use syncmesh_io::Waker;

/// How many workers run jobs. Two cores are what a small node has; hashing and file-system calls share them.
pub const WORKERS: usize = 2;

/// Parts of scans that may wait for the loop.
const FINDINGS: usize = 4;

/// Starts a named thread. The one place where threads are made.
///
/// # Panics
/// If the system refuses a thread at start: there is nothing to go on with.
pub fn spawn(name: &str, work: impl FnOnce() + Send + 'static) -> JoinHandle<()> {
    std::thread::Builder::new().name(name.to_owned()).spawn(work).expect("the system gives a thread at start")
}

/// The workers, as the loop sees them.
pub struct Workers {
    jobs: Sender<Job>,
    commits: Sender<Job>,
    threads: Vec<JoinHandle<()>>,
    outcomes: Receiver<Done>,
    findings: Receiver<Done>,
    context: Arc<Context>,
    outcome: Sender<Done>,
    waker: Waker,
}

impl Workers {
    /// Starts the threads. They end when this is dropped.
    pub fn start(context: Arc<Context>, waker: &Waker) -> Self {
        let (jobs, job_queue) = bounded(4 * JOBS);
        let (commits, commit_queue) = bounded(2);
        let (outcome, outcomes) = bounded(8 * JOBS);
        let (finding, findings) = bounded(FINDINGS);
        let queues = std::iter::repeat_n(job_queue, WORKERS).chain([commit_queue]);
        let mut threads = Vec::new();
        for (number, queue) in queues.enumerate() {
            let name = if number < WORKERS { format!("worker-{number}") } else { "epochs".to_owned() };
            let (context, outcome, finding, waker) = (context.clone(), outcome.clone(), finding.clone(), waker.clone());
            threads.push(spawn(&name, move || work(&queue, &context, &outcome, &finding, &waker)));
        }
        Self { jobs, commits, threads, outcomes, findings, context, outcome, waker: waker.clone() }
    }

    /// Hands a job over.
    ///
    /// # Panics
    /// If a worker has died: its job's files are in an unknown state, and the agent must start anew.
    pub fn submit(&self, job: Job) {
        if job.is_sync() {
            return self.sync(job);
        }
        let queue = if job.is_commit() { &self.commits } else { &self.jobs };
        queue.send(job).expect("workers live as long as the loop");
    }

    /// A file system that hangs takes its thread with it, and nobody else.
    fn sync(&self, job: Job) {
        let (context, outcome, waker) = (self.context.clone(), self.outcome.clone(), self.waker.clone());
        spawn("sync", move || {
            let mut ended = None;
            job.run(&context, &mut |done| ended = Some(done));
            // First: whoever hears of the end may start the engine again, and open the registry.
            drop(context);
            if let Some(done) = ended {
                let _ = outcome.send(done);
            }
            waker.wake();
        });
    }

    /// Does work that may take its time on a thread of its own; the loop is woken when the result is there.
    pub fn aside<T: Send + 'static>(
        &self,
        name: &str,
        work: impl FnOnce(&Context) -> T + Send + 'static,
    ) -> Receiver<T> {
        let (context, waker) = (self.context.clone(), self.waker.clone());
        let (result, results) = bounded(1);
        spawn(name, move || {
            let found = work(&context);
            drop(context);
            // Who doesn't wait any more has ended.
            let _ = result.send(found);
            waker.wake();
        });
        results
    }

    /// Waits until the threads have ended, which have nothing to do: afterwards nobody has the registry open.
    pub fn end(self) {
        let Self { jobs, commits, threads, .. } = self;
        drop((jobs, commits));
        // A panic was reported when it happened.
        threads.into_iter().for_each(|thread| drop(thread.join()));
    }

    /// The next outcome. Findings only while there is room for what they become.
    pub fn outcome(&self, room: bool) -> Option<Done> {
        let first = self.outcomes.try_recv().ok();
        first.or_else(|| if room { self.findings.try_recv().ok() } else { None })
    }
}

fn work(queue: &Receiver<Job>, context: &Context, outcome: &Sender<Done>, finding: &Sender<Done>, waker: &Waker) {
    for job in queue {
        job.run(context, &mut |done| {
            // Send fails only when the loop has gone, and with it whoever would care.
            let is_part = matches!(done, Done::Findings(_));
            let _ = if is_part { finding.send(done) } else { outcome.send(done) };
            waker.wake();
        });
    }
}
