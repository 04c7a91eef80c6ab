//! The options for reaching registries, and for pushing into one.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use sealift::Result;
use sealift::interrupt::Interrupt;
use sealift::progress::Progress;
use sealift::registry::Insecure;
use sealift::registry::{
    ClientCertificate, Destination, Environment, Mirror, MirrorError, Options, RegistrySource, RegistryTarget,
};

use super::remedy;

/// Connection timeout for a registry that may be unreachable.
const SHORT: Duration = Duration::from_secs(3);

/// Number of attempts for each request, unless another is given.
const TRIES: u32 = 5;
/// Seconds of silence after which a connection is given up, unless another number is given.
const IDLE: u64 = 30;

/// How registries are reached that images are saved from.
#[derive(Args)]
#[command(next_help_heading = "Registry options")]
pub struct RegistryArgs {
    /// Ask MIRROR first for images of REGISTRY; repeatable, in order
    ///
    /// For example docker.io=harbor.local/dockerhub.
    #[arg(long, value_name = "REGISTRY=MIRROR", value_parser = mirror)]
    mirror: Vec<Mirror>,
    #[command(flatten)]
    connection: ConnectionArgs,
}

/// How any registry is reached.
#[derive(Args)]
#[command(next_help_heading = "Registry options")]
pub struct ConnectionArgs {
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
    #[arg(long, value_name = "N", default_value_t = TRIES, value_parser = clap::value_parser!(u32).range(1..=100))]
    tries: u32,
    /// Give up on a connection after this many seconds of silence
    #[arg(long, value_name = "SECONDS", default_value_t = IDLE, value_parser = clap::value_parser!(u64).range(1..=86_400))]
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
        self.connection.tries
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

    /// The source without mirrors.
    pub fn direct(&self, progress: Arc<dyn Progress>, interrupt: &Interrupt) -> Result<RegistrySource> {
        RegistrySource::new(self.connection.options()?, progress, interrupt.clone())
    }

    fn options(&self) -> Result<Options> {
        let mut options = self.connection.options()?;
        options.mirrors.clone_from(&self.mirror);
        Ok(options)
    }
}

impl ConnectionArgs {
    fn options(&self) -> Result<Options> {
        let mut options = Options::from_environment(&Environment::of_process())?;
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

/// What only a load into a registry has.
#[derive(Args)]
#[command(next_help_heading = "Registry options")]
pub struct PushArgs {
    /// Push the manifest of one platform in place of the index
    ///
    /// An index names the manifests of all platforms, and many registries refuse it without these. The image then has the
    /// digest of the platform's manifest, not that of the index. If an image has several platforms, --platform chooses one.
    #[arg(long)]
    platform_manifest: bool,
    /// Verify only the digests of what is sent, without decompressing layers for their diff ids
    ///
    /// An engine that pulls a layer compares its diff id in any case.
    #[arg(long)]
    digests_only: bool,
    #[command(flatten)]
    connection: ConnectionArgs,
}

impl PushArgs {
    /// Whether layers are not decompressed for their diff ids.
    pub fn digests_only(&self) -> bool {
        self.digests_only
    }

    /// The first of these options that was given.
    pub fn given(&self) -> Option<&'static str> {
        let connection = &self.connection;
        let given = [
            ("--platform-manifest", self.platform_manifest),
            ("--digests-only", self.digests_only),
            ("--insecure", !connection.insecure.is_empty()),
            ("--ca-file", !connection.ca_file.is_empty()),
            ("--cert", connection.cert.is_some()),
            ("--tries", connection.tries != TRIES),
            ("--idle-timeout", connection.idle_timeout != IDLE),
        ];
        let mut given = given.into_iter().filter(|(_, is_given)| *is_given);
        given.next().map(|(option, _)| option)
    }

    /// The target that these options and the environment describe.
    pub fn target(
        &self,
        destination: Destination,
        progress: Arc<dyn Progress>,
        interrupt: &Interrupt,
    ) -> Result<RegistryTarget> {
        RegistryTarget::new(
            destination,
            self.platform_manifest,
            self.connection.options()?,
            progress,
            interrupt.clone(),
        )
    }
}
