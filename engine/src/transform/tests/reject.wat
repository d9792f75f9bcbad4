;; What guest.wat does with an event that it rejects: code and message are words of its heap.
(i32.store offset=4 (local.get $step) (i32.const 3))
(i32.store16 (local.get $tag) (i32.const 0x0707))
(i64.store (local.get $word) (i64.const 11))
(i64.store offset=8 (local.get $word) (i64.const 3))
(local.set $heap_length (i32.const 11))
(local.set $tag (i32.add (local.get $tag) (i32.const 2)))
(local.set $word (i32.add (local.get $word) (i32.const 16)))
(br $step_done)
