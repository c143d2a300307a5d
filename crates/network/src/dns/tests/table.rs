//! Every kind of name of a small cluster, and what is answered to it.

use super::*;

/// The whole of a reply: its code, then its sections as far as it has any.
fn show(reply: &Message) -> String {
    let sections = [&reply.answers, &reply.authorities, &reply.additionals];
    let sections = sections.map(|records| section(records));
    format!(
        "{} | {}",
        reply.metadata.response_code.to_str(),
        sections.join(" | ")
    )
}

const CODES: [(&str, &str); 2] = [("+", "No Error"), ("NX", "Non-Existent Domain")];

/// What each question is answered: the code, the answers, the authority, what is added.
pub(super) const TABLE: &[(&str, &str)] = &[
    // A Service with an address: the address, and its ports.
    (
        "web.shop.svc.cluster.local A",
        "+ | web.shop.svc.cluster.local. A 10.96.0.10 |  | ",
    ),
    (
        "WEB.Shop.SVC.cluster.LOCAL A",
        "+ | WEB.Shop.SVC.cluster.LOCAL. A 10.96.0.10 |  | ",
    ),
    (
        "web.shop.svc.cluster.local AAAA",
        "+ |  | cluster.local. SOA - | ",
    ),
    (
        "web.shop.svc.cluster.local MX",
        "+ |  | cluster.local. SOA - | ",
    ),
    (
        "web.shop.svc.cluster.local CNAME",
        "+ |  | cluster.local. SOA - | ",
    ),
    (
        "web.shop.svc.cluster.local ANY",
        "+ | web.shop.svc.cluster.local. A 10.96.0.10 |  | ",
    ),
    (
        "_http._tcp.web.shop.svc.cluster.local SRV",
        "+ | _http._tcp.web.shop.svc.cluster.local. SRV 0 100 80 web.shop.svc.cluster.local. |  | web.shop.svc.cluster.local. A 10.96.0.10",
    ),
    (
        "_Time._UDP.web.shop.svc.cluster.local SRV",
        "+ | _Time._UDP.web.shop.svc.cluster.local. SRV 0 100 123 web.shop.svc.cluster.local. |  | web.shop.svc.cluster.local. A 10.96.0.10",
    ),
    // As CoreDNS has it, a Service's own name stands for all of its ports; one without a name has no other.
    (
        "web.shop.svc.cluster.local SRV",
        "+ | web.shop.svc.cluster.local. SRV 0 33 80 web.shop.svc.cluster.local.; web.shop.svc.cluster.local. SRV 0 33 123 web.shop.svc.cluster.local.; web.shop.svc.cluster.local. SRV 0 33 81 web.shop.svc.cluster.local. |  | web.shop.svc.cluster.local. A 10.96.0.10",
    ),
    (
        "_http._tcp.web.shop.svc.cluster.local A",
        "+ |  | cluster.local. SOA - | ",
    ),
    (
        "_tcp.web.shop.svc.cluster.local SRV",
        "+ |  | cluster.local. SOA - | ",
    ),
    (
        "_sctp.web.shop.svc.cluster.local SRV",
        "NX |  | cluster.local. SOA - | ",
    ),
    (
        "_http._udp.web.shop.svc.cluster.local SRV",
        "NX |  | cluster.local. SOA - | ",
    ),
    (
        "_._tcp.web.shop.svc.cluster.local SRV",
        "NX |  | cluster.local. SOA - | ",
    ),
    (
        "http.tcp.web.shop.svc.cluster.local SRV",
        "NX |  | cluster.local. SOA - | ",
    ),
    (
        "a._http._tcp.web.shop.svc.cluster.local SRV",
        "NX |  | cluster.local. SOA - | ",
    ),
    // Its endpoints have names too, which no pointer leads to.
    (
        "10-128-0-5.web.shop.svc.cluster.local A",
        "+ | 10-128-0-5.web.shop.svc.cluster.local. A 10.128.0.5 |  | ",
    ),
    (
        "10-128-0-6.web.shop.svc.cluster.local A",
        "NX |  | cluster.local. SOA - | ",
    ),
    // A headless Service: its endpoints, by their hostname or their address.
    (
        "db.shop.svc.cluster.local A",
        "+ | db.shop.svc.cluster.local. A 10.128.0.9; db.shop.svc.cluster.local. A 10.128.0.2; db.shop.svc.cluster.local. A 10.129.0.7 |  | ",
    ),
    (
        "db-0.db.shop.svc.cluster.local A",
        "+ | db-0.db.shop.svc.cluster.local. A 10.128.0.9 |  | ",
    ),
    (
        "10-128-0-9.db.shop.svc.cluster.local A",
        "NX |  | cluster.local. SOA - | ",
    ),
    (
        "10-128-0-2.db.shop.svc.cluster.local A",
        "+ | 10-128-0-2.db.shop.svc.cluster.local. A 10.128.0.2 |  | ",
    ),
    (
        "10-128-0-3.db.shop.svc.cluster.local A",
        "NX |  | cluster.local. SOA - | ",
    ),
    (
        "_sql._tcp.db.shop.svc.cluster.local SRV",
        "+ | _sql._tcp.db.shop.svc.cluster.local. SRV 0 33 15432 db-0.db.shop.svc.cluster.local.; _sql._tcp.db.shop.svc.cluster.local. SRV 0 33 15432 10-128-0-2.db.shop.svc.cluster.local.; _sql._tcp.db.shop.svc.cluster.local. SRV 0 33 15432 db-1.db.shop.svc.cluster.local. |  | db-0.db.shop.svc.cluster.local. A 10.128.0.9; 10-128-0-2.db.shop.svc.cluster.local. A 10.128.0.2; db-1.db.shop.svc.cluster.local. A 10.129.0.7",
    ),
    (
        "db-1.db.shop.svc.cluster.local SRV",
        "+ | db-1.db.shop.svc.cluster.local. SRV 0 100 15432 db-1.db.shop.svc.cluster.local. |  | db-1.db.shop.svc.cluster.local. A 10.129.0.7",
    ),
    (
        "db-0.db.shop.svc.cluster.local AAAA",
        "+ |  | cluster.local. SOA - | ",
    ),
    (
        "idle.shop.svc.cluster.local A",
        "NX |  | cluster.local. SOA - | ",
    ),
    (
        "_sql._tcp.idle.shop.svc.cluster.local SRV",
        "NX |  | cluster.local. SOA - | ",
    ),
    // External names that stay inside.
    (
        "Front.shop.svc.cluster.local A",
        "+ | Front.shop.svc.cluster.local. CNAME web.shop.svc.cluster.local.; web.shop.svc.cluster.local. A 10.96.0.10 |  | ",
    ),
    (
        "front.shop.svc.cluster.local AAAA",
        "+ | front.shop.svc.cluster.local. CNAME web.shop.svc.cluster.local. | cluster.local. SOA - | ",
    ),
    (
        "front.shop.svc.cluster.local CNAME",
        "+ | front.shop.svc.cluster.local. CNAME web.shop.svc.cluster.local. |  | ",
    ),
    (
        "front.shop.svc.cluster.local ANY",
        "+ | front.shop.svc.cluster.local. CNAME web.shop.svc.cluster.local. |  | ",
    ),
    (
        "docs.shop.svc.cluster.local CNAME",
        "+ | docs.shop.svc.cluster.local. CNAME docs.example.com. |  | ",
    ),
    (
        "lost.shop.svc.cluster.local A",
        "NX | lost.shop.svc.cluster.local. CNAME nobody.shop.svc.cluster.local. | cluster.local. SOA - | ",
    ),
    (
        "a.docs.shop.svc.cluster.local A",
        "NX |  | cluster.local. SOA - | ",
    ),
    (
        "number.shop.svc.cluster.local A",
        "NX |  | cluster.local. SOA - | ",
    ),
    (
        "wrong.shop.svc.cluster.local A",
        "NX |  | cluster.local. SOA - | ",
    ),
    // Pods.
    (
        "10-1-2-3.shop.pod.cluster.local A",
        "+ | 10-1-2-3.shop.pod.cluster.local. A 10.1.2.3 |  | ",
    ),
    (
        "10-1-2-3.shop.pod.cluster.local TXT",
        "+ |  | cluster.local. SOA - | ",
    ),
    (
        "10-1-2-256.shop.pod.cluster.local A",
        "NX |  | cluster.local. SOA - | ",
    ),
    (
        "10-1-2.shop.pod.cluster.local A",
        "NX |  | cluster.local. SOA - | ",
    ),
    (
        "a.10-1-2-3.shop.pod.cluster.local A",
        "NX |  | cluster.local. SOA - | ",
    ),
    // Names that only others stand below, and the domain itself.
    ("cluster.local A", "+ |  | cluster.local. SOA - | "),
    ("cluster.local SOA", "+ | cluster.local. SOA - |  | "),
    ("cluster.local ANY", "+ | cluster.local. SOA - |  | "),
    ("cluster.local NS", "+ |  | cluster.local. SOA - | "),
    ("svc.cluster.local A", "+ |  | cluster.local. SOA - | "),
    ("pod.cluster.local A", "+ |  | cluster.local. SOA - | "),
    ("shop.svc.cluster.local A", "+ |  | cluster.local. SOA - | "),
    (
        "shop.svc.cluster.local SOA",
        "+ |  | cluster.local. SOA - | ",
    ),
    (
        "nowhere.svc.cluster.local A",
        "NX |  | cluster.local. SOA - | ",
    ),
    (
        "web.nowhere.svc.cluster.local A",
        "NX |  | cluster.local. SOA - | ",
    ),
    ("other.cluster.local A", "NX |  | cluster.local. SOA - | "),
    (
        "*.shop.svc.cluster.local A",
        "NX |  | cluster.local. SOA - | ",
    ),
    (
        "web\\.shop.svc.cluster.local A",
        "NX |  | cluster.local. SOA - | ",
    ),
    (
        "dns-version.cluster.local TXT",
        "+ | dns-version.cluster.local. TXT 1.1.0 |  | ",
    ),
    (
        "dns-version.cluster.local A",
        "+ |  | cluster.local. SOA - | ",
    ),
    // From addresses to names: cluster IPs, and endpoints of headless Services, even of foreign addresses.
    (
        "10.0.96.10.in-addr.arpa PTR",
        "+ | 10.0.96.10.in-addr.arpa. PTR web.shop.svc.cluster.local. |  | ",
    ),
    (
        "10.0.96.10.IN-ADDR.ARPA A",
        "+ |  | 96.10.in-addr.arpa. SOA - | ",
    ),
    (
        "9.0.128.10.in-addr.arpa PTR",
        "+ | 9.0.128.10.in-addr.arpa. PTR db-0.db.shop.svc.cluster.local. |  | ",
    ),
    (
        "2.0.128.10.in-addr.arpa PTR",
        "+ | 2.0.128.10.in-addr.arpa. PTR 10-128-0-2.db.shop.svc.cluster.local. |  | ",
    ),
    (
        "7.2.0.192.in-addr.arpa PTR",
        "+ | 7.2.0.192.in-addr.arpa. PTR 192-0-2-7.mainframe.old.svc.cluster.local. |  | ",
    ),
    (
        "7.2.0.192.in-addr.arpa A",
        "+ |  | 7.2.0.192.in-addr.arpa. SOA - | ",
    ),
    (
        "5.0.128.10.in-addr.arpa PTR",
        "NX |  | 128.10.in-addr.arpa. SOA - | ",
    ),
    (
        "1.0.131.10.in-addr.arpa PTR",
        "NX |  | 131.10.in-addr.arpa. SOA - | ",
    ),
    (
        "01.0.131.10.in-addr.arpa PTR",
        "NX |  | 131.10.in-addr.arpa. SOA - | ",
    ),
    (
        "a.9.0.128.10.in-addr.arpa PTR",
        "NX |  | 128.10.in-addr.arpa. SOA - | ",
    ),
    (
        "0.128.10.in-addr.arpa PTR",
        "+ |  | 128.10.in-addr.arpa. SOA - | ",
    ),
    (
        "128.10.in-addr.arpa PTR",
        "+ |  | 128.10.in-addr.arpa. SOA - | ",
    ),
];

#[test]
fn names_are_answered_as_the_specification_and_coredns_have_it() {
    let names = cluster();
    for (question, expected) in TABLE {
        let (code, rest) = expected.split_once(' ').unwrap();
        let (_, code) = CODES.iter().find(|(short, _)| *short == code).unwrap();
        let query = query(question);
        for over in [Over::Udp, Over::Tcp] {
            let reply = reply_to(&query.to_vec().unwrap(), &names, over);
            assert_eq!(show(&reply), format!("{code} {rest}"), "{question}");
            let told = &reply.metadata;
            assert_eq!(
                (told.id, told.message_type),
                (0x1234, MessageType::Response)
            );
            assert!(told.authoritative && told.recursion_available && told.recursion_desired);
            assert!(!told.truncation && !told.authentic_data);
            let records = reply.all_sections();
            assert!(
                records.into_iter().all(|record| record.ttl == 5),
                "{question}"
            );
            assert!(reply.queries[0].name().eq_case(query.queries[0].name()));
            assert_eq!(reply.queries, query.queries);
            assert_eq!(reply.edns, None, "who does not know EDNS gets none");
        }
    }
}
