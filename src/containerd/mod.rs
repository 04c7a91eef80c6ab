//! containerd, over its gRPC API: of Kubernetes nodes, k3s, RKE2 and MicroK8s, and of hosts without an orchestrator.
//!
//! - `api`: generated stubs of the services that sealift calls

mod api;
