//! What rdkafka does not expose, or exposes with a panic: the topic's id, a member's id, and headers whose names are not UTF-8.
#![expect(unsafe_code, reason = "the one module that binds what rdkafka does not expose")]

use std::borrow::Cow;
use std::ffi::{CStr, CString};
use std::ptr;
use std::time::Duration;

use rdkafka::bindings as sys;
use rdkafka::client::{Client, ClientContext};
use rdkafka::error::RDKafkaErrorCode;
use rdkafka::message::{BorrowedHeaders, Headers};

/// The headers of a message: names, with what is not UTF-8 replaced, and values. rdkafka's own iterator panics on such a name.
pub(super) fn headers(headers: &BorrowedHeaders) -> impl Iterator<Item = (Cow<'_, str>, Option<&[u8]>)> {
    (0..headers.count()).filter_map(|index| header(headers, index))
}

fn header(headers: &BorrowedHeaders, index: usize) -> Option<(Cow<'_, str>, Option<&[u8]>)> {
    let mut name = ptr::null();
    let mut value = ptr::null();
    let mut size = 0;
    // SAFETY: a `BorrowedHeaders` reference is the native headers' address, as rdkafka itself makes it; the three out-pointers are valid.
    let code = unsafe {
        sys::rd_kafka_header_get_all(ptr::from_ref(headers).cast::<sys::rd_kafka_headers_t>(), index, &mut name, &mut value, &mut size)
    };
    if code != sys::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR || name.is_null() {
        return None;
    }
    // SAFETY: librdkafka ends names with NUL, and they live as long as the headers.
    let name = unsafe { CStr::from_ptr(name) };
    let name = name.to_str().map_or_else(|_| name.to_string_lossy(), Cow::Borrowed);
    // SAFETY: where it is not null, the value has `size` bytes, which live as long as the headers.
    let value = (!value.is_null()).then(|| unsafe { std::slice::from_raw_parts(value.cast::<u8>(), size) });
    Some((name, value))
}

/// Kafka's id of a topic. `None`: the cluster has none to tell (before Kafka 2.8, or a mock cluster). No answer in time is an error like any
/// other: whoever takes it for "none" compares nothing just when the topic may be another one.
pub(super) fn topic_id<C: ClientContext>(client: &Client<C>, topic: &str, timeout: Duration) -> Result<Option<String>, RDKafkaErrorCode> {
    let topic = CString::new(topic).map_err(|_| RDKafkaErrorCode::InvalidTopic)?;
    let no_memory = || RDKafkaErrorCode::CriticalSystemResource;
    let mut names = [topic.as_ptr()];
    // SAFETY: every pointer is made here, checked, used while the client lives, and destroyed once, by its guard.
    unsafe {
        let collection =
            Guard::new(sys::rd_kafka_TopicCollection_of_topic_names(names.as_mut_ptr(), 1), sys::rd_kafka_TopicCollection_destroy)
                .ok_or_else(no_memory)?;
        let operation = sys::rd_kafka_admin_op_t::RD_KAFKA_ADMIN_OP_DESCRIBETOPICS;
        let options = Guard::new(sys::rd_kafka_AdminOptions_new(client.native_ptr(), operation), sys::rd_kafka_AdminOptions_destroy)
            .ok_or_else(no_memory)?;
        let millis = i32::try_from(timeout.as_millis()).unwrap_or(i32::MAX);
        let mut text = [0; 256];
        sys::rd_kafka_AdminOptions_set_request_timeout(options.0, millis, text.as_mut_ptr(), text.len());
        let queue = Guard::new(sys::rd_kafka_queue_new(client.native_ptr()), sys::rd_kafka_queue_destroy).ok_or_else(no_memory)?;
        sys::rd_kafka_DescribeTopics(client.native_ptr(), collection.0, options.0, queue.0);
        let event = Guard::new(sys::rd_kafka_queue_poll(queue.0, millis.saturating_add(1000)), sys::rd_kafka_event_destroy)
            .ok_or(RDKafkaErrorCode::OperationTimedOut)?;
        described_id(event.0)
    }
}

/// Whether the consumer's group has given it no member's id, or it has given the id back: librdkafka forgets it when it asks to leave.
pub(super) fn has_left<C: ClientContext>(consumer: &Client<C>) -> bool {
    // SAFETY: the client lives; the text that it returns is ours, ends with NUL, and is freed once.
    unsafe {
        let id = sys::rd_kafka_memberid(consumer.native_ptr());
        if id.is_null() {
            return true;
        }
        let left = CStr::from_ptr(id).is_empty();
        sys::rd_kafka_mem_free(consumer.native_ptr(), id.cast());
        left
    }
}

/// The id in the answer to a request for one topic.
///
/// # Safety
/// `event` must be a live event; nothing of it is kept.
unsafe fn described_id(event: *mut sys::rd_kafka_event_t) -> Result<Option<String>, RDKafkaErrorCode> {
    let none = sys::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR;
    let fault = |code| if code == none { Ok(()) } else { Err(RDKafkaErrorCode::from(code)) };
    // SAFETY: the caller vouches for the event; each pointer that is read was checked, and belongs to the event.
    unsafe {
        fault(sys::rd_kafka_event_error(event))?;
        let result = sys::rd_kafka_event_DescribeTopics_result(event);
        if result.is_null() {
            return Err(RDKafkaErrorCode::Unknown);
        }
        let mut count = 0;
        let topics = sys::rd_kafka_DescribeTopics_result_topics(result, &mut count);
        if topics.is_null() || count == 0 {
            return Err(RDKafkaErrorCode::UnknownTopicOrPartition);
        }
        let description = *topics;
        fault(sys::rd_kafka_error_code(sys::rd_kafka_TopicDescription_error(description)))?;
        let id = sys::rd_kafka_TopicDescription_topic_id(description);
        if id.is_null() || (sys::rd_kafka_Uuid_most_significant_bits(id) == 0 && sys::rd_kafka_Uuid_least_significant_bits(id) == 0) {
            return Ok(None);
        }
        let text = sys::rd_kafka_Uuid_base64str(id);
        Ok((!text.is_null()).then(|| CStr::from_ptr(text).to_string_lossy().into_owned()))
    }
}

/// A native object that is destroyed once.
struct Guard<T>(*mut T, unsafe extern "C" fn(*mut T));

impl<T> Guard<T> {
    fn new(object: *mut T, destroy: unsafe extern "C" fn(*mut T)) -> Option<Self> {
        if object.is_null() { None } else { Some(Self(object, destroy)) }
    }
}

impl<T> Drop for Guard<T> {
    fn drop(&mut self) {
        // SAFETY: the pointer is not null, is owned by this guard alone, and `destroy` is its type's destructor.
        unsafe { (self.1)(self.0) }
    }
}
