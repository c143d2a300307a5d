//! Fields of services, and of what leads to them.

/// By type and field. Sorted.
pub(super) static FIELDS: &[(&str, &str)] = &[
    (
        "EndpointSubset.addresses",
        "Addresses of pods that are ready.",
    ),
    (
        "EndpointSubset.notReadyAddresses",
        "Addresses of pods that are not ready.",
    ),
    (
        "EndpointSubset.ports",
        "Ports that all of the addresses have.",
    ),
    (
        "Endpoints.subsets",
        "Addresses with the same ports, set by set.",
    ),
    ("HTTPIngressPath.backend", "What serves the path."),
    ("HTTPIngressPath.path", "The path, beginning with a slash."),
    (
        "HTTPIngressPath.pathType",
        "How paths are compared: Exact, Prefix or ImplementationSpecific.",
    ),
    ("HTTPIngressRuleValue.paths", "Paths, and what serves them."),
    (
        "IngressBackend.resource",
        "An object of the namespace that serves requests, in place of a service.",
    ),
    (
        "IngressBackend.service",
        "The service that requests are sent to.",
    ),
    (
        "IngressRule.host",
        "The host that requests name, or *.DOMAIN; any if empty.",
    ),
    ("IngressRule.http", "Which paths lead where."),
    ("IngressServiceBackend.name", "The service's name."),
    (
        "IngressServiceBackend.port",
        "The service's port, by name or by number.",
    ),
    (
        "IngressSpec.defaultBackend",
        "What serves requests that no rule takes.",
    ),
    (
        "IngressSpec.ingressClassName",
        "Who serves the ingress, by an IngressClass.",
    ),
    ("IngressSpec.rules", "Which hosts and paths lead where."),
    ("IngressSpec.tls", "Certificates by host."),
    ("IngressTLS.hosts", "The hosts that the certificate is of."),
    (
        "IngressTLS.secretName",
        "The Secret with the certificate and its key.",
    ),
    ("ServicePort.nodePort", "The port's number on every node."),
    (
        "ServicePort.port",
        "The port's number at the service's address.",
    ),
    (
        "ServicePort.targetPort",
        "The port's number or name in the pods.",
    ),
    (
        "ServiceSpec.allocateLoadBalancerNodePorts",
        "Whether a LoadBalancer takes ports of the nodes.",
    ),
    (
        "ServiceSpec.clusterIP",
        "The service's address in the cluster; None for a service without one.",
    ),
    (
        "ServiceSpec.clusterIPs",
        "The service's addresses; the first is clusterIP.",
    ),
    (
        "ServiceSpec.externalIPs",
        "Further addresses that lead to the service.",
    ),
    (
        "ServiceSpec.externalName",
        "The name to which an ExternalName service leads.",
    ),
    (
        "ServiceSpec.externalTrafficPolicy",
        "Cluster: traffic from outside goes to any pod. Local: only to those of the node that it reached.",
    ),
    (
        "ServiceSpec.internalTrafficPolicy",
        "Cluster: traffic from pods goes to any pod. Local: only to those of the same node.",
    ),
    ("ServiceSpec.ipFamilies", "IPv4, IPv6 or both, in order."),
    (
        "ServiceSpec.ipFamilyPolicy",
        "SingleStack, PreferDualStack or RequireDualStack.",
    ),
    ("ServiceSpec.ports", "The ports that the service has."),
    (
        "ServiceSpec.publishNotReadyAddresses",
        "Whether pods count that are not ready.",
    ),
    (
        "ServiceSpec.selector",
        "Labels of the pods behind the service.",
    ),
    (
        "ServiceSpec.sessionAffinity",
        "ClientIP: a client stays with its pod. None: it need not.",
    ),
    (
        "ServiceSpec.sessionAffinityConfig",
        "How long a client stays with its pod.",
    ),
    (
        "ServiceSpec.trafficDistribution",
        "Which pods are preferred, as PreferSameZone or PreferSameNode.",
    ),
    (
        "ServiceSpec.type",
        "ClusterIP, NodePort, LoadBalancer or ExternalName.",
    ),
];
