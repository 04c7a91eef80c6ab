//! For a moment the names of registries lead the engine to this process, which serves the manifests only. It
//! holds the image, so a pull by digest asks for nothing else, and the engine records the digest.
//!
//! No file is changed: another `/etc/hosts` is laid over the one that the engine sees. What is on the loopback
//! network is insecure to the engine, as that says, so it goes on to plain HTTP where HTTPS is refused.
//! A name that is this host itself (`localhost:5000/app`) needs no entry.
//!
//! Source: moby, `registry/config.go` (`isSecureIndex`) and `registry/service_v2.go`.

mod file;
mod infrastructure;
mod place;
pub mod undo;

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::time::Duration;

use rustix::net::{AddressFamily, SocketFlags, SocketType, socket_with};

use self::place::Place;
use super::folder::Folder;
use super::{Attach, Failed, Manner, Outcome, Ready, Strategy, Surroundings, pull};
use crate::docker::api::Client;
use crate::docker::api::info::Info;
use crate::docker::attach::hosts::undo::{Begun, Step};
use crate::docker::daemon::network::{Network, try_loopback};
use crate::docker::daemon::overmount::Cover;
use crate::docker::daemon::process::Process;
use crate::docker::daemon::reach;
use crate::error::{Error, Result};
use crate::interrupt::pause;
use crate::oci::Repository;
use crate::oci::reference::DEFAULT_DOMAIN;
use crate::serve::{Documents, Server};
use crate::target::Obstacle;

const PATH: &str = "/etc/hosts";
/// Go keeps what it has read of `/etc/hosts` for five seconds (`cacheMaxAge` in `net/hosts.go`).
const CACHE: Duration = Duration::from_millis(5300);
/// How long names lead elsewhere, with the pulls: what the engine keeps is waited out before them and afterwards.
const SECONDS: u32 = 11;

/// The strategy.
#[derive(Debug)]
pub struct Hosts {
    /// Where its journal is.
    pub folder: Folder,
}

impl Strategy for Hosts {
    fn name(&self) -> &'static str {
        "hosts"
    }

    fn manner(&self) -> Manner {
        Manner::Live
    }

    fn serves(&self, repository: &Repository, surroundings: &Surroundings) -> Result<bool, Obstacle> {
        if repository.domain() == DEFAULT_DOMAIN {
            return Ok(false);
        }
        let place = Place::of(repository.domain())?;
        if let Some(network) = &surroundings.network {
            place.check(network)?;
        }
        Ok(true)
    }

    fn steps(&self, wanted: &[String], surroundings: &Surroundings) -> Vec<String> {
        let pid = surroundings
            .pid
            .map(|pid| format!(" that process {pid} sees"))
            .unwrap_or_default();
        let mut names = BTreeSet::new();
        let mut doors = BTreeSet::new();
        for name in wanted {
            let repository = name
                .split('@')
                .next()
                .and_then(|name| name.parse::<Repository>().ok());
            let Some(place) = repository.and_then(|repository| Place::of(repository.domain()).ok()) else {
                continue;
            };
            let address = place
                .own
                .map_or_else(|| "a loopback address".into(), |own| own.to_string());
            doors.insert(format!("port {} of {address}", place.port()));
            if place.own.is_none() {
                names.insert(place.host);
            }
        }
        let (names, doors) = (Vec::from_iter(names).join(", "), Vec::from_iter(doors).join(", "));
        let mut steps = vec![format!("serve the manifests, by digest only, on {doors}")];
        if !names.is_empty() {
            steps.push(format!(
                "bind-mount a copy of {PATH} over the {PATH}{pid}, with lines that lead there for {names}"
            ));
            steps.push("wait five seconds, for which the engine keeps what it knew of it".into());
            steps.push(led(&names));
        }
        steps.push(format!(
            "let it pull {}: it asks for manifests only",
            wanted.join(", ")
        ));
        if !names.is_empty() {
            steps.push("unmount the copy, and wait five seconds".into());
        }
        steps
    }

    fn folder(&self) -> &Folder {
        &self.folder
    }

    fn look(&self, client: &Client, info: &Info) -> Result<Box<dyn Ready>, Vec<Obstacle>> {
        let process = reach::process(client, info)?;
        self.folder.seen_by(&process)?;
        let path = process.locate(PATH.as_ref())?;
        let is_file = process.namespaces().with_files(|| path.is_file());
        if !is_file.unwrap_or_default() {
            let reason = format!("{} is no file, so nothing can be laid over it", path.display());
            return Err(Obstacle::new(reason, "make an empty one").into());
        }
        try_loopback(&process).map_err(|error| {
            Obstacle::new(
                format!("no address of the loopback network can be had where dockerd runs: {error}"),
                "is the loopback device up there (ip link set lo up)?",
            )
        })?;
        Ok(Box::new(Found {
            process,
            cover: Cover::File(path),
        }))
    }
}

/// What a look finds.
struct Found {
    process: Process,
    cover: Cover,
}

impl Ready for Found {
    fn attach(self: Box<Self>, attach: &Attach<'_>) -> Result<Vec<Outcome>, Failed> {
        let network = Network::look(&Info::ask(attach.client)?, &self.process);
        let places: Vec<Result<Place, Obstacle>> = attach
            .wanted
            .iter()
            .map(|one| {
                let place = Place::of(one.repository.domain())?;
                place.check(&network).map(|()| place)
            })
            .collect();
        let doors = Doors::open(places.iter().flatten(), &network, &self.process)?;
        let _servers = doors.serve(&pull::documents(attach.wanted))?;
        let pull_all = || -> Result<Vec<Outcome>> {
            let pulled = places.iter().zip(attach.wanted).map(|(place, one)| match place {
                Ok(_) => pull::by_digest(attach, one),
                Err(obstacle) => Ok(Err(obstacle.clone())),
            });
            pulled.collect()
        };
        if doors.names.is_empty() {
            return Ok(pull_all()?);
        }
        let names: Vec<&str> = doors.names.iter().map(|(name, _)| name.as_str()).collect();
        attach.progress.note(&led(&names.join(", ")));
        let outcomes = self.with_names(&doors.names, attach, pull_all)?;
        // Until the engine has forgotten, it would ask us: nobody else may sit there meanwhile.
        pause(CACHE, || attach.interrupt.check())?;
        Ok(outcomes)
    }
}

impl Found {
    /// Acts while the names lead to us.
    fn with_names(
        self,
        names: &[(String, IpAddr)],
        attach: &Attach<'_>,
        act: impl FnOnce() -> Result<Vec<Outcome>>,
    ) -> Result<Vec<Outcome>, Failed> {
        let content = self.copy(names)?;
        let begun = Begun {
            cover: self.cover,
            namespaces: self.process.namespaces().clone(),
            steps: Vec::new(),
        };
        let acted = attach.journaled(begun, |session| {
            session.step(Step::Cover, |begun, folder| {
                begun.cover.lay_in(&begun.namespaces, &content, &folder.source())
            })?;
            pause(CACHE, || attach.interrupt.check())?;
            act()
        })?;
        Ok(acted?)
    }

    fn copy(&self, names: &[(String, IpAddr)]) -> Result<Vec<u8>> {
        let path = self.cover.path();
        let read = self.process.namespaces().with_files(|| fs::read(path));
        let original = read.and_then(|read| read).map_err(Error::io("read", path))?;
        Ok(file::with(&original, names))
    }
}

/// What the users of the host have to know of it.
fn led(names: &str) -> String {
    format!(
        "for about {SECONDS} seconds these names lead to this process, for every program that reads the same {PATH}: \
         {names}"
    )
}

/// Where we are instead of registries.
struct Doors {
    listeners: Vec<TcpListener>,
    /// Ports of HTTPS that refuse, and that nobody else can have meanwhile.
    _refusing: Vec<OwnedFd>,
    /// Names that must lead there.
    names: Vec<(String, IpAddr)>,
}

impl Doors {
    fn open<'p>(
        places: impl Iterator<Item = &'p Place>,
        network: &Network,
        process: &Process,
    ) -> Result<Doors, Obstacle> {
        let (own, named): (Vec<Place>, Vec<Place>) = places.cloned().partition(|place| place.own.is_some());
        let mut own: Vec<SocketAddr> = own
            .iter()
            .filter_map(|place| Some(SocketAddr::new(place.own?, place.port())))
            .collect();
        own.sort_unstable();
        own.dedup();
        let mut listeners = bind(process, &own)?;
        let mut refusing = Vec::new();
        let mut names = Vec::new();
        if !named.is_empty() {
            let mut ports: Vec<u16> = named.iter().map(Place::port).collect();
            ports.sort_unstable();
            ports.dedup();
            let mut closed: Vec<u16> = named.iter().filter_map(Place::refusing).collect();
            closed.dedup();
            let mut last = None;
            let bound = place::address(&named, network).find_map(|ip| {
                let at: Vec<SocketAddr> = ports.iter().map(|port| (ip, *port).into()).collect();
                let closed: Vec<SocketAddr> = closed.iter().map(|port| (ip, *port).into()).collect();
                let bound = bind(process, &at).and_then(|bound| Ok((bound, close(process, &closed)?)));
                match bound {
                    Ok(bound) => Some((ip, bound)),
                    // Somebody else, another sealift maybe, was there first.
                    Err(obstacle) => {
                        last = Some(obstacle);
                        None
                    }
                }
            });
            let Some((ip, (bound, closed))) = bound else {
                return Err(last.unwrap_or_else(|| {
                    let ports: Vec<String> = ports.iter().map(ToString::to_string).collect();
                    Obstacle::new(
                        format!(
                            "no loopback address has all of the ports {} free",
                            ports.join(", ")
                        ),
                        "load the images of one registry at a time (--image)",
                    )
                }));
            };
            listeners.extend(bound);
            refusing.extend(closed);
            names.extend(named.into_iter().map(|place| (place.host, IpAddr::from(ip))));
            names.sort();
            names.dedup();
        }
        Ok(Doors {
            listeners,
            _refusing: refusing,
            names,
        })
    }

    fn serve(&self, documents: &Documents) -> Result<Vec<Server>, Obstacle> {
        let start = |listener: &TcpListener| Server::start(listener.try_clone()?, documents.clone());
        self.listeners
            .iter()
            .map(|listener| {
                start(listener)
                    .map_err(|error| Obstacle::new(format!("the manifests cannot be served: {error}"), ""))
            })
            .collect()
    }
}

/// Listens on addresses of dockerd's network.
fn bind(process: &Process, addresses: &[SocketAddr]) -> Result<Vec<TcpListener>, Obstacle> {
    all(process, addresses, |address| TcpListener::bind(address))
}

/// Takes addresses without listening there: who connects is refused, and nobody else can listen.
fn close(process: &Process, addresses: &[SocketAddr]) -> Result<Vec<OwnedFd>, Obstacle> {
    all(process, addresses, |address| {
        let family = match address {
            SocketAddr::V4(_) => AddressFamily::INET,
            SocketAddr::V6(_) => AddressFamily::INET6,
        };
        let socket = socket_with(family, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
        rustix::net::bind(&socket, address)?;
        Ok(socket)
    })
}

fn all<T: Send>(
    process: &Process,
    addresses: &[SocketAddr],
    take: impl Fn(&SocketAddr) -> io::Result<T> + Sync,
) -> Result<Vec<T>, Obstacle> {
    let one = |address: &SocketAddr| {
        take(address).map_err(|error| {
            Obstacle::new(
                format!(
                    "port {} of {} cannot be had: {error}",
                    address.port(),
                    address.ip()
                ),
                format!("ss -ltnp 'sport = :{}' shows what is there", address.port()),
            )
        })
    };
    process
        .namespaces()
        .with_network(|| addresses.iter().map(one).collect())
        .unwrap_or_else(|error| {
            Err(Obstacle::new(
                format!("dockerd's network cannot be entered: {error}"),
                "",
            ))
        })
}
