;; Rows of {{table}} as they are: every column under its own name, typed, in every target of the route.
;;
;; This is all that the contract asks of a core module, without an SDK and in no language. It shows what to export from yours; then let
;; `command` and `core` in transform.toml name your compiler and what it leaves, and remove this file. wit/transform.wit explains every
;; list below.
;;
;; Columns that are only passed on don't come here: a cell with tag 32 stands for one. To compute a field, name the columns that it is
;; made of in the plan's `after`; `apply` then finds their cells in tags, words and heap.
(module
  (memory (export "memory") 1)
  ;; Below 1024 are the constants and what a function returns; the rest is given out by $take, upwards.
  (global $free (mut i32) (i32.const 1024))
  ;; What lies below was passed to init and open, or stands for a schema, and stays. What apply takes is free again behind it.
  (global $kept (mut i32) (i32.const 1024))
  ;; The route's targets: 16 bytes each, name and sink.
  (global $targets (mut i32) (i32.const 0))
  (global $target_count (mut i32) (i32.const 0))
  ;; The last opened schema: its id, its number of columns, the schema before it.
  (global $schemas (mut i32) (i32.const 0))

  ;; Texts end with the first zero behind them.
  (data (i32.const 64) "{{name}}")
  (data (i32.const 128) "0.1.0")
  (data (i32.const 144) "a schema that was never opened")

  ;; The length of such a text.
  (func $length (param $text i32) (result i32)
    (local $length i32)
    (loop $next
      (if (i32.load8_u (i32.add (local.get $text) (local.get $length)))
        (then
          (local.set $length (i32.add (local.get $length) (i32.const 1)))
          (br $next))))
    (local.get $length))

  ;; So many bytes, aligned to 8, of a memory that grows. Where it can't, the call traps, and the engine tries fewer events at once.
  (func $take (param $size i32) (result i32)
    (local $at i32) (local $missing i32)
    (local.set $at (i32.and (i32.add (global.get $free) (i32.const 7)) (i32.const -8)))
    (global.set $free (i32.add (local.get $at) (local.get $size)))
    (local.set $missing (i32.sub (i32.shr_u (i32.add (global.get $free) (i32.const 0xffff)) (i32.const 16)) (memory.size)))
    (if (i32.gt_s (local.get $missing) (i32.const 0))
      (then (if (i32.eq (memory.grow (local.get $missing)) (i32.const -1)) (then (unreachable)))))
    (local.get $at))

  ;; Where the engine puts what it passes.
  (func (export "cabi_realloc") (param $old i32) (param $old_size i32) (param $align i32) (param $size i32) (result i32)
    (local $new i32)
    (local.set $new (call $take (local.get $size)))
    (if (i32.gt_u (local.get $old_size) (local.get $size)) (then (local.set $old_size (local.get $size))))
    (memory.copy (local.get $new) (local.get $old) (local.get $old_size))
    (local.get $new))

  ;; description: name, version, no schema of the configuration.
  (func (export "streamsync:transform/transform@0.1.0#describe") (result i32)
    (i32.store (i32.const 0) (i32.const 64))
    (i32.store (i32.const 4) (call $length (i32.const 64)))
    (i32.store (i32.const 8) (i32.const 128))
    (i32.store (i32.const 12) (call $length (i32.const 128)))
    (i32.store8 (i32.const 16) (i32.const 0))
    (i32.const 0))

  ;; Once for each instance.
  (func (export "streamsync:transform/transform@0.1.0#init")
    (param $config i32) (param $config_length i32) (param $targets i32) (param $target_count i32) (result i32)
    (global.set $targets (local.get $targets))
    (global.set $target_count (local.get $target_count))
    (global.set $kept (global.get $free))
    (i32.store8 (i32.const 0) (i32.const 0))
    (i32.const 0))

  ;; Once for each schema. The plan: no column needs to cross, deletes neither; one output a target, with all columns as fields.
  (func (export "streamsync:transform/transform@0.1.0#open")
    (param $id i32) (param $database i32) (param $database_length i32) (param $table i32) (param $table_length i32)
    (param $columns i32) (param $column_count i32) (param $primary_key i32) (param $primary_key_length i32) (result i32)
    (local $schema i32) (local $fields i32) (local $outputs i32) (local $i i32)
    (local.set $schema (call $take (i32.const 12)))
    (i32.store (local.get $schema) (local.get $id))
    (i32.store offset=4 (local.get $schema) (local.get $column_count))
    (i32.store offset=8 (local.get $schema) (global.get $schemas))
    (global.set $schemas (local.get $schema))
    ;; A column is 36 bytes and begins with its name, which is 8: a pointer and a length.
    (local.set $fields (call $take (i32.mul (local.get $column_count) (i32.const 8))))
    (block $done
      (loop $next
        (br_if $done (i32.eq (local.get $i) (local.get $column_count)))
        (i64.store
          (i32.add (local.get $fields) (i32.mul (local.get $i) (i32.const 8)))
          (i64.load align=4 (i32.add (local.get $columns) (i32.mul (local.get $i) (i32.const 36)))))
        (local.set $i (i32.add (local.get $i) (i32.const 1)))
        (br $next)))
    (local.set $outputs (call $take (i32.mul (global.get $target_count) (i32.const 24))))
    (local.set $i (i32.const 0))
    (block $done
      (loop $next
        (br_if $done (i32.eq (local.get $i) (global.get $target_count)))
        (call $output
          (i32.add (local.get $outputs) (i32.mul (local.get $i) (i32.const 24)))
          (i32.add (global.get $targets) (i32.mul (local.get $i) (i32.const 16)))
          (local.get $fields)
          (local.get $column_count))
        (local.set $i (i32.add (local.get $i) (i32.const 1)))
        (br $next)))
    (global.set $kept (global.get $free))
    ;; before, after: no columns. sees-deletes: false.
    (i32.store8 (i32.const 0) (i32.const 0))
    (i64.store (i32.const 4) (i64.const 0))
    (i64.store (i32.const 12) (i64.const 0))
    (i32.store8 (i32.const 20) (i32.const 0))
    (i32.store (i32.const 24) (local.get $outputs))
    (i32.store (i32.const 28) (global.get $target_count))
    (i32.const 0))

  ;; A target's name; no key, which is the row's own then; the fields.
  (func $output (param $output i32) (param $target i32) (param $fields i32) (param $field_count i32)
    (i64.store (local.get $output) (i64.load (local.get $target)))
    (i64.store offset=8 (local.get $output) (i64.const 0))
    (i32.store offset=16 (local.get $output) (local.get $fields))
    (i32.store offset=20 (local.get $output) (local.get $field_count)))

  ;; The number of columns of a schema; -1 where it was never opened.
  (func $columns_of (param $id i32) (result i32)
    (local $schema i32)
    (local.set $schema (global.get $schemas))
    (block $unknown
      (loop $next
        (br_if $unknown (i32.eqz (local.get $schema)))
        (if (i32.eq (i32.load (local.get $schema)) (local.get $id))
          (then (return (i32.load offset=4 (local.get $schema)))))
        (local.set $schema (i32.load offset=8 (local.get $schema)))
        (br $next)))
    (i32.const -1))

  ;; One put for each event and target.
  (func (export "streamsync:transform/transform@0.1.0#apply")
    (param $id i32) (param $partition i32) (param $events i32) (param $events_length i32) (param $tags i32) (param $tags_length i32)
    (param $words i32) (param $words_length i32) (param $heap i32) (param $heap_length i32) (result i32)
    (local $columns i32) (local $step_count i32) (local $cell_count i32) (local $steps i32) (local $out_tags i32) (local $out_words i32)
    (local $i i32) (local $step i32)
    (local.set $columns (call $columns_of (local.get $id)))
    (if (i32.lt_s (local.get $columns) (i32.const 0))
      (then
        (i32.store8 (i32.const 0) (i32.const 1))
        (i32.store (i32.const 4) (i32.const 144))
        (i32.store (i32.const 8) (call $length (i32.const 144)))
        (return (i32.const 0))))
    ;; An event is 24 bytes, a step 16, a cell a tag and 8 bytes of its word.
    (local.set $step_count (i32.mul (i32.div_u (local.get $events_length) (i32.const 24)) (global.get $target_count)))
    (local.set $cell_count (i32.mul (local.get $step_count) (local.get $columns)))
    (local.set $steps (call $take (i32.mul (local.get $step_count) (i32.const 16))))
    (local.set $out_tags (call $take (local.get $cell_count)))
    (local.set $out_words (call $take (i32.mul (local.get $cell_count) (i32.const 8))))
    (block $done
      (loop $next
        (br_if $done (i32.eq (local.get $i) (local.get $step_count)))
        (local.set $step (i32.add (local.get $steps) (i32.mul (local.get $i) (i32.const 16))))
        ;; The event's number; action 0, a put; the output's number; the target's own time to live.
        (i32.store (local.get $step) (i32.div_u (local.get $i) (global.get $target_count)))
        (i32.store offset=4 (local.get $step) (i32.const 0))
        (i32.store offset=8 (local.get $step) (i32.rem_u (local.get $i) (global.get $target_count)))
        (i32.store offset=12 (local.get $step) (i32.const 0))
        (local.set $i (i32.add (local.get $i) (i32.const 1)))
        (br $next)))
    ;; Every field is the after image's column of the same number.
    (memory.fill (local.get $out_tags) (i32.const 32) (local.get $cell_count))
    (local.set $i (i32.const 0))
    (block $done
      (loop $next
        (br_if $done (i32.eq (local.get $i) (local.get $cell_count)))
        (i64.store
          (i32.add (local.get $out_words) (i32.mul (local.get $i) (i32.const 8)))
          (i64.extend_i32_u (i32.rem_u (local.get $i) (local.get $columns))))
        (local.set $i (i32.add (local.get $i) (i32.const 1)))
        (br $next)))
    ;; steps, tags, words, and no heap.
    (i32.store8 (i32.const 0) (i32.const 0))
    (i32.store (i32.const 4) (local.get $steps))
    (i32.store (i32.const 8) (i32.mul (local.get $step_count) (i32.const 16)))
    (i32.store (i32.const 12) (local.get $out_tags))
    (i32.store (i32.const 16) (local.get $cell_count))
    (i32.store (i32.const 20) (local.get $out_words))
    (i32.store (i32.const 24) (i32.mul (local.get $cell_count) (i32.const 8)))
    (i64.store (i32.const 28) (i64.const 0))
    (i32.const 0))

  ;; The engine has read the answer.
  (func (export "cabi_post_streamsync:transform/transform@0.1.0#apply") (param i32)
    (global.set $free (global.get $kept))))
