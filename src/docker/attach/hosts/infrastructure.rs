//! Hosts of registries that are in no image name: where registries issue tokens, store blobs, and let users log
//! in. A program that connects to one means that host, so an archive must not redirect it even for a moment.
//!
//! Source: the firewall lists of the registries' operators (docs.docker.com/desktop/setup/allow-list,
//! docs.redhat.com, learn.microsoft.com/azure/container-registry, cloud.google.com/artifact-registry), and the
//! targets of their redirects.

/// Domains, including all their subdomains.
const BELOW: [&str; 19] = [
    "amazoncognito.com",
    "azureedge.net",
    "blob.core.windows.net",
    "cloudflare.com",
    "cloudflarestorage.com",
    "cloudfront.net",
    "data.azurecr.io",
    "data.mcr.microsoft.com",
    "digitaloceanspaces.com",
    "docker.com",
    "fastly.net",
    "githubusercontent.com",
    "googleapis.com",
    "googleusercontent.com",
    "login.microsoftonline.com",
    "okta.com",
    "s3.amazonaws.com",
    "sso.redhat.com",
    "accounts.google.com",
];
/// Registries whose subdomains are all infrastructure.
const REGISTRIES: [&str; 6] = [
    "docker.io",
    "gcr.io",
    "ghcr.io",
    "mcr.microsoft.com",
    "public.ecr.aws",
    "quay.io",
];
/// Single hosts.
const HOSTS: [&str; 4] = [
    "github.com",
    "gitlab.com",
    "localhost.localdomain",
    "storage.google.com",
];
/// Regional mirrors of gcr.io, which occur in image names.
const GCR_REGIONS: [&str; 4] = ["asia.gcr.io", "eu.gcr.io", "k8s.gcr.io", "us.gcr.io"];

/// Whether a host, in lower case, belongs to a registry's infrastructure and is in no image name.
pub fn contains(host: &str) -> bool {
    let host = host.trim_end_matches('.');
    let is_below = |domain: &str| {
        let rest = host.strip_suffix(domain);
        rest.is_some_and(|rest| rest.ends_with('.'))
    };
    let is_bucket = host.ends_with(".amazonaws.com") && host.split('.').any(|label| label.starts_with("s3"));
    HOSTS.contains(&host)
        || is_bucket
        || BELOW.iter().any(|domain| host == *domain || is_below(domain))
        || REGISTRIES.iter().any(|domain| is_below(domain)) && !GCR_REGIONS.contains(&host)
}

#[cfg(test)]
mod tests {
    use super::contains;

    #[test]
    fn registries_are_told_from_what_they_are_made_of() {
        for host in [
            "auth.docker.io",
            "registry-1.docker.io",
            "index.docker.io",
            "auth.docker.io.",
            "production.cloudflare.docker.com",
            "hub.docker.com",
            "docker-images-prod.6aa30f8b08e16409b46e0173d6de2f56.r2.cloudflarestorage.com",
            "cdn01.quay.io",
            "pkg-containers.githubusercontent.com",
            "github.com",
            "gitlab.com",
            "storage.googleapis.com",
            "accounts.google.com",
            "sso.redhat.com",
            "prod-us-east-1-starport-layer-bucket.s3.us-east-1.amazonaws.com",
            "s3.amazonaws.com",
            "westeurope.data.mcr.microsoft.com",
            "weu.data.azurecr.io",
            "d5l0dvt14r5h8.cloudfront.net",
        ] {
            assert!(contains(host), "{host}");
        }
        for host in [
            "docker.io",
            "quay.io",
            "ghcr.io",
            "gcr.io",
            "eu.gcr.io",
            "k8s.gcr.io",
            "registry.k8s.io",
            "mcr.microsoft.com",
            "public.ecr.aws",
            "registry.gitlab.com",
            "registry.redhat.io",
            "registry.access.redhat.com",
            "123456789012.dkr.ecr.eu-central-1.amazonaws.com",
            "europe-docker.pkg.dev",
            "example.azurecr.io",
            "harbor.local",
            "notdocker.com",
            "registry.example.com",
        ] {
            assert!(!contains(host), "{host}");
        }
    }
}
