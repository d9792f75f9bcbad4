//! The proxies that this machine is set up with, for the clients inside of a build.

use std::env;
use std::process::Command;

use crate::progress::{ASK_LIMIT, capture};

/// Docker hands each of them to a build without a trace in the image. apt and curl read the lower case alone, others the upper one.
const VARIABLES: [[&str; 2]; 3] = [["http_proxy", "HTTP_PROXY"], ["https_proxy", "HTTPS_PROXY"], ["no_proxy", "NO_PROXY"]];

/// Each variable in both cases, from whichever is set.
pub(crate) fn variables() -> Vec<(&'static str, String)> {
    let mut variables = Vec::new();
    for names in VARIABLES {
        if let Some(value) = names.into_iter().find_map(set) {
            variables.extend(names.map(|name| (name, value.clone())));
        }
    }
    variables
}

fn set(name: &str) -> Option<String> {
    env::var(name).ok().filter(|value| !value.is_empty())
}

/// apt's own, in its own format. Empty where it has none, or where there is no apt.
pub(crate) fn of_apt() -> String {
    let mut dump = Command::new("apt-config");
    capture("apt-config", dump.args(["dump", "Acquire::http::Proxy", "Acquire::https::Proxy"]), ASK_LIMIT).unwrap_or_default()
}

/// Settings for Maven, which reads none of the variables.
pub(crate) fn for_maven() -> Option<String> {
    let variables = variables();
    let value = |name: &str| variables.iter().find(|(set, _)| *set == name).map(|(_, value)| value.as_str());
    maven_settings(value("https_proxy").or_else(|| value("http_proxy"))?, value("no_proxy").unwrap_or_default())
}

/// Maven takes a proxy of protocol `http`, which says how the proxy itself is spoken to, for https addresses as well.
fn maven_settings(proxy: &str, direct: &str) -> Option<String> {
    let address = proxy.split_once("://").map_or(proxy, |(_, address)| address).trim_end_matches('/');
    let (login, address) = address.rsplit_once('@').unwrap_or(("", address));
    let (host, port) = address.rsplit_once(':')?;
    let (user, password) = login.split_once(':').unwrap_or((login, ""));
    let direct: Vec<String> =
        direct.split(',').map(str::trim).map(|host| if host.starts_with('.') { format!("*{host}") } else { host.to_owned() }).collect();
    let elements: String = [
        ("protocol", "http"),
        ("host", host),
        ("port", port),
        ("username", user),
        ("password", password),
        ("nonProxyHosts", &direct.join("|")),
    ]
    .into_iter()
    .filter(|(_, text)| !text.is_empty())
    .map(|(name, text)| format!("<{name}>{}</{name}>", text.replace('&', "&amp;").replace('<', "&lt;")))
    .collect();
    Some(format!("<settings><proxies><proxy>{elements}</proxy></proxies></settings>\n"))
}

#[cfg(test)]
mod tests {
    use super::maven_settings;

    #[test]
    fn maven_reads_what_the_variables_say() {
        let cases = [
            ("http://proxy.example:3128/", "", Some("<protocol>http</protocol><host>proxy.example</host><port>3128</port>")),
            (
                "proxy.example:80",
                "localhost, .example.org",
                Some(
                    "<protocol>http</protocol><host>proxy.example</host><port>80</port><nonProxyHosts>localhost|*.example.org</nonProxyHosts>",
                ),
            ),
            (
                "http://me:a&b@proxy.example:80",
                "",
                Some(
                    "<protocol>http</protocol><host>proxy.example</host><port>80</port><username>me</username><password>a&amp;b</password>",
                ),
            ),
            // Without a port there is no telling which is meant.
            ("http://proxy.example", "", None),
        ];
        for (proxy, direct, expected) in cases {
            let expected = expected.map(|elements| format!("<settings><proxies><proxy>{elements}</proxy></proxies></settings>\n"));
            assert_eq!(maven_settings(proxy, direct), expected, "{proxy}");
        }
    }
}
