//! The options for reaching registries.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use sealift::Result;
use sealift::interrupt::Interrupt;
use sealift::progress::Progress;
use sealift::registry::Insecure;
use sealift::registry::{ClientCertificate, Environment, Mirror, MirrorError, Options, RegistrySource};

use super::remedy;

/// Connection timeout for a registry that may be unreachable.
const SHORT: Duration = Duration::from_secs(3);

/// How registries are reached.
#[derive(Args)]
#[command(next_help_heading = "Registry options")]
pub struct RegistryArgs {
    /// Ask MIRROR first for images of REGISTRY; repeatable, in order
    ///
    /// For example docker.io=harbor.local/dockerhub.
    #[arg(long, value_name = "REGISTRY=MIRROR", value_parser = mirror)]
    mirror: Vec<Mirror>,
    /// Allow plain HTTP and unverified certificates for this registry; repeatable
    #[arg(long, value_name = "HOST[:PORT]")]
    insecure: Vec<Insecure>,
    /// Trust the certificate authorities in this PEM file too; repeatable
    #[arg(long, value_name = "FILE")]
    ca_file: Vec<PathBuf>,
    /// Client certificate (PEM)
    #[arg(long, value_name = "FILE", requires = "key")]
    cert: Option<PathBuf>,
    /// Key of the client certificate (PEM)
    #[arg(long, value_name = "FILE", requires = "cert")]
    key: Option<PathBuf>,
    /// Number of attempts for each request
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=100))]
    tries: u32,
    /// Give up on a connection after this many seconds of silence
    #[arg(long, value_name = "SECONDS", default_value_t = 30, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    idle_timeout: u64,
}

/// Parses a mirror. An error says which option allows what the text asks for.
fn mirror(text: &str) -> Result<Mirror, String> {
    text.parse().map_err(|error: MirrorError| match &error.hint {
        Some(hint) => format!("{error}; {}", remedy::hint(hint)),
        None => error.to_string(),
    })
}

impl RegistryArgs {
    /// Number of attempts for each request.
    pub fn tries(&self) -> u32 {
        self.tries
    }

    /// The source that these options and the environment describe.
    pub fn source(&self, progress: Arc<dyn Progress>, interrupt: &Interrupt) -> Result<RegistrySource> {
        RegistrySource::new(self.options()?, progress, interrupt.clone())
    }

    /// The same for a registry that may be unreachable: short timeouts and no retries.
    pub fn reachable(&self, progress: Arc<dyn Progress>, interrupt: &Interrupt) -> Result<RegistrySource> {
        let mut options = self.options()?;
        options.retry.attempts = 1;
        options.timeouts.connect = options.timeouts.connect.min(SHORT);
        RegistrySource::new(options, progress, interrupt.clone())
    }

    fn options(&self) -> Result<Options> {
        let mut options = Options::from_environment(&Environment::of_process())?;
        options.mirrors.clone_from(&self.mirror);
        options.insecure.clone_from(&self.insecure);
        options.ca_files.clone_from(&self.ca_file);
        options.client_certificate = match (&self.cert, &self.key) {
            (Some(certificate), Some(key)) => Some(ClientCertificate {
                certificate: certificate.clone(),
                key: key.clone(),
            }),
            _ => None,
        };
        options.retry.attempts = self.tries;
        options.timeouts.idle = Duration::from_secs(self.idle_timeout);
        Ok(options)
    }
}
