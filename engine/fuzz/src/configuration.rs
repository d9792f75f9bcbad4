//! A configuration: any text is either valid settings or faults with a place and a remedy.

use std::path::Path;

use streamsync::config::Settings;

pub(crate) fn run(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    // A configuration may name files; here it must not lead to devices.
    if text.contains("/dev") || text.contains("/proc") || text.contains("..") {
        return;
    }
    match Settings::parse(text, Path::new("/nonexistent")) {
        Ok(settings) => {
            for route in &settings.routes {
                assert!(!route.name.is_empty() && !route.topic.is_empty() && !route.targets.is_empty());
                assert!(route.targets.iter().all(|target| target.sink < settings.sinks.len()), "a target has a sink");
            }
            let topics: std::collections::BTreeSet<&str> = settings.routes.iter().map(|route| route.topic.as_str()).collect();
            assert_eq!(topics.len(), settings.routes.len(), "a topic has one route");
            assert!(!format!("{settings:?}").is_empty());
        }
        Err(faults) => {
            assert!(!faults.is_empty(), "refused without a reason");
            assert!(faults.iter().all(|fault| !fault.message.is_empty() && !fault.remedy.is_empty()), "a fault without its remedy");
        }
    }
}
