//! What an agent's loop runs on: io_uring or epoll, as configured and as the system lets it. To users both are the same.

#![allow(clippy::disallowed_types, clippy::unwrap_used, reason = "tests: real time, and a failure is a failure")]

mod mesh;

use mesh::{Agent, Mesh, noise, replace, words};
use rustix::process::Signal;
use seccompiler::{SeccompAction, SeccompFilter};
use std::collections::BTreeMap;
use std::fs;

fn set_engine(agent: &Agent, engine: &str) {
    let text = fs::read_to_string(&agent.configuration).unwrap();
    fs::write(&agent.configuration, format!("engine: {engine}\n{text}")).unwrap();
}

#[track_caller]
fn runs_on(agent: &Agent, engine: &str) {
    assert_eq!(agent.status().unwrap()["engine"], engine);
    assert!(words(&agent.ask(&["status"])).contains(engine), "the table says it, too");
}

/// Runs `work` where a system call is refused, as container profiles do; programs that it starts inherit that.
fn without(call: i64, work: impl FnOnce() + Send) {
    let rules = BTreeMap::from([(call, Vec::new())]);
    let refuse = SeccompAction::Errno(libc::EPERM as u32);
    let filter = SeccompFilter::new(rules, SeccompAction::Allow, refuse, std::env::consts::ARCH.try_into().unwrap());
    let filter: seccompiler::BpfProgram = filter.unwrap().try_into().unwrap();
    // A filter is its thread's, and stays with it.
    std::thread::scope(|scope| {
        scope.spawn(move || {
            seccompiler::apply_filter(&filter).unwrap();
            work();
        });
    });
}

/// Small files both ways, replaced and removed ones, and one that takes many transfers.
fn sync_both_ways(mesh: &mut Mesh) {
    for (number, agent) in (0..).zip(&mesh.agents) {
        for file in 0..200_u64 {
            let directory = agent.volume.join(format!("{}-{}", agent.name, file % 7));
            fs::create_dir_all(&directory).unwrap();
            fs::write(directory.join(format!("f{file}")), noise(number * 1000 + file, 5000)).unwrap();
        }
        fs::write(agent.volume.join(format!("{}-large", agent.name)), noise(number, 64 << 20)).unwrap();
    }
    mesh.converge();
    let (a, b) = mesh.pair();
    replace(&a.volume.join("b-large"), b"small now");
    fs::remove_file(b.volume.join("a-large")).unwrap();
    fs::rename(b.volume.join("a-0"), b.volume.join("renamed")).unwrap();
    b.shows("b-large", b"small now");
    a.lacks("a-large");
    a.lacks("a-0");
    mesh.converge();
}

#[test]
fn two_agents_on_epoll_sync_both_ways() {
    let mut mesh = Mesh::new(["a", "b"]);
    mesh.agents.iter().for_each(|agent| set_engine(agent, "epoll"));
    mesh.start();
    sync_both_ways(&mut mesh);
    mesh.agents.iter().for_each(|agent| runs_on(agent, "epoll"));
    assert!(mesh.agents[0].stop().success());
}

#[test]
fn a_mesh_may_mix_engines() {
    let mut mesh = Mesh::new(["a", "b", "c"]);
    for (agent, engine) in mesh.agents.iter().zip(["epoll", "io_uring", "auto"]) {
        set_engine(agent, engine);
    }
    mesh.start();
    sync_both_ways(&mut mesh);
    runs_on(&mesh.agents[0], "epoll");
    runs_on(&mesh.agents[1], "io_uring");
    runs_on(&mesh.agents[2], "io_uring");
}

#[test]
fn an_agent_on_epoll_that_is_killed_or_stopped_for_a_while_goes_on() {
    let mut mesh = Mesh::new(["a", "b"]);
    mesh.agents.iter().for_each(|agent| set_engine(agent, "epoll"));
    mesh.start();
    sync_both_ways(&mut mesh);
    let (a, b) = mesh.pair();
    b.restart();
    fs::write(a.volume.join("after-kill"), "1").unwrap();
    b.shows("after-kill", b"1");
    // A wait that is stopped ends early (signal(7)).
    b.signal(Signal::STOP);
    fs::write(a.volume.join("while-stopped"), "2").unwrap();
    b.signal(Signal::CONT);
    b.shows("while-stopped", b"2");
    mesh.converge();
}

#[test]
fn where_io_uring_is_refused_an_agent_runs_on_epoll_and_says_why() {
    let mut mesh = Mesh::new(["a", "b"]);
    without(libc::SYS_io_uring_setup, || mesh.agents[0].start());
    mesh.start();
    sync_both_ways(&mut mesh);
    let (a, b) = mesh.pair();
    runs_on(a, "epoll");
    runs_on(b, "io_uring");
    let log = a.log_text();
    let reasons: Vec<&str> = log.lines().filter(|line| line.contains("io_uring is refused (EPERM)")).collect();
    assert_eq!(reasons.len(), 1, "{reasons:?}");
    assert!(reasons[0].contains("epoll") && reasons[0].contains("seccomp"), "{reasons:?}");
}

#[test]
fn one_refused_call_of_io_uring_is_enough_to_take_epoll() {
    for call in [libc::SYS_io_uring_enter, libc::SYS_io_uring_register] {
        let mut mesh = Mesh::new(["a"]);
        let agent = &mut mesh.agents[0];
        without(call, || agent.start());
        agent.in_sync();
        runs_on(agent, "epoll");
    }
}

#[test]
fn where_io_uring_is_demanded_and_refused_an_agent_says_what_to_do() {
    let mut mesh = Mesh::new(["a"]);
    let agent = &mut mesh.agents[0];
    set_engine(agent, "io_uring");
    without(libc::SYS_io_uring_setup, || agent.start());
    assert!(!agent.ended().success());
    agent.logs(&["io_uring is refused (EPERM)", "seccomp profile", "`engine: auto`"]);
}
