package streamsync

import "unsafe"

// The canonical ABI of streamsync:transform@0.1.0 by hand, because standard Go has no generator of bindings for components.
//
// GOARCH=wasm has pointers of 8 bytes and the host's have 4, so records are spelled out as 32-bit words.

// What the host lowers into this memory lies in blocks that are used again by each call; what a call returns is kept until the host has
// read it.
var (
	blocks [][]byte
	used   uint32
	answer [9]uint32
	kept   []any
)

const smallestBlock = 64 << 10

//go:wasmexport cabi_export_realloc
func cabiRealloc(old unsafe.Pointer, oldSize, align, size uint32) unsafe.Pointer {
	if size == 0 {
		return unsafe.Add(nil, align)
	}
	used = (used + align - 1) &^ (align - 1)
	if len(blocks) == 0 || used+size > uint32(len(blocks[len(blocks)-1])) {
		blocks, used = append(blocks, make([]byte, max(smallestBlock, 2*(used+size)))), 0
	}
	p := unsafe.Pointer(&blocks[len(blocks)-1][used])
	used += size
	if oldSize > 0 {
		copy(unsafe.Slice((*byte)(p), size), unsafe.Slice((*byte)(old), oldSize))
	}
	return p
}

// release forgets what the last call was given and has returned. The newest block is the largest.
func release() {
	if n := len(blocks); n > 1 {
		blocks = [][]byte{blocks[n-1]}
	}
	used = 0
	clear(kept)
	kept = kept[:0]
}

func sliceAt[T any](p, n uint32) []T { return unsafe.Slice((*T)(unsafe.Add(nil, p)), n) }
func textAt(p, n uint32) string      { return string(sliceAt[byte](p, n)) }

// textOf is the text of bytes that nobody else has.
func textOf(bytes []byte) string { return unsafe.String(unsafe.SliceData(bytes), len(bytes)) }

// give puts a slice where the host finds it, as address and length.
func give[T any](to []uint32, s []T) {
	kept = append(kept, s)
	to[0], to[1] = uint32(uintptr(unsafe.Pointer(unsafe.SliceData(s)))), uint32(len(s))
}

// giveBytes is for a list of bytes in which numbers lie as they do in this memory.
func giveBytes[T any](to []uint32, s []T) {
	give(to, s)
	to[1] *= uint32(unsafe.Sizeof(*new(T)))
}

func giveText(to []uint32, s string) { give(to, []byte(s)) }

func giveTexts(to []uint32, texts []string) {
	list := make([]uint32, 2*len(texts))
	for i, text := range texts {
		giveText(list[2*i:], text)
	}
	give(to, list)
	to[1] = uint32(len(texts))
}

// fail answers with an error's text.
func fail(err error) unsafe.Pointer {
	answer = [9]uint32{0: 1}
	giveText(answer[1:], err.Error())
	return unsafe.Pointer(&answer)
}

//go:wasmexport streamsync:transform/transform@0.1.0#describe
func exportDescribe() unsafe.Pointer {
	answer = [9]uint32{}
	giveText(answer[0:], exported.name)
	giveText(answer[2:], exported.version)
	if exported.configSchema != "" {
		answer[4] = 1
		giveText(answer[5:], exported.configSchema)
	}
	return unsafe.Pointer(&answer)
}

//go:wasmexport streamsync:transform/transform@0.1.0#init
func exportInit(config, configLen, targets, targetsLen uint32) unsafe.Pointer {
	context := Context{Config: textAt(config, configLen)}
	for _, t := range sliceAt[[4]uint32](targets, targetsLen) {
		context.Targets = append(context.Targets, Target{Name: textAt(t[0], t[1]), Sink: textAt(t[2], t[3])})
	}
	if err := start(context); err != nil {
		return fail(err)
	}
	answer = [9]uint32{}
	return unsafe.Pointer(&answer)
}

// abiColumn is a column as it lies in memory: flags are one byte, and what follows them is not defined.
type abiColumn struct {
	name, nameLen             uint32
	tag, nullable             uint8
	hasLength, length         uint32
	hasScale                  uint32
	scale                     int32
	sourceType, sourceTypeLen uint32
}

func (c *abiColumn) schema() ColumnSchema {
	column := ColumnSchema{
		Name:       textAt(c.name, c.nameLen),
		Nullable:   c.nullable != 0,
		Length:     -1,
		Scale:      -1,
		SourceType: textAt(c.sourceType, c.sourceTypeLen),
		tag:        c.tag,
	}
	if uint8(c.hasLength) != 0 {
		column.Length = int64(c.length)
	}
	if uint8(c.hasScale) != 0 {
		column.Scale = int64(c.scale)
	}
	return column
}

//go:wasmexport streamsync:transform/transform@0.1.0#open
func exportOpen(id, database, databaseLen, name, nameLen, columns, columnsLen, key, keyLen uint32) unsafe.Pointer {
	table := &Table{
		Database:   textAt(database, databaseLen),
		Name:       textAt(name, nameLen),
		PrimaryKey: append([]uint32(nil), sliceAt[uint32](key, keyLen)...),
		id:         id,
	}
	for i := range sliceAt[abiColumn](columns, columnsLen) {
		table.Columns = append(table.Columns, sliceAt[abiColumn](columns, columnsLen)[i].schema())
	}
	if err := table.open(); err != nil {
		return fail(err)
	}
	answer = [9]uint32{}
	give(answer[1:], table.before)
	give(answer[3:], table.after)
	if table.seesDeletes {
		answer[5] = 1
	}
	outputs := make([]uint32, 6*len(table.outputs))
	for i, output := range table.outputs {
		giveText(outputs[6*i:], output.target)
		giveTexts(outputs[6*i+2:], output.document.key)
		giveTexts(outputs[6*i+4:], output.document.fields)
	}
	give(answer[6:], outputs)
	answer[7] = uint32(len(table.outputs))
	return unsafe.Pointer(&answer)
}

//go:wasmexport streamsync:transform/transform@0.1.0#apply
func exportApply(schema, partition, events, eventsLen, tags, tagsLen, words, wordsLen, heap, heapLen uint32) unsafe.Pointer {
	row := Row{
		partition: partition,
		events:    sliceAt[byte](events, eventsLen),
		tags:      sliceAt[byte](tags, tagsLen),
		words:     sliceAt[byte](words, wordsLen),
		heap:      textAt(heap, heapLen), // one copy, of which each text is a part
	}
	changes, err := apply(schema, &row)
	if err != nil {
		return fail(err)
	}
	answer = [9]uint32{}
	giveBytes(answer[1:], changes.steps)
	giveBytes(answer[3:], changes.tags)
	giveBytes(answer[5:], changes.words)
	giveBytes(answer[7:], changes.heap)
	return unsafe.Pointer(&answer)
}

//go:wasmexport cabi_post_streamsync:transform/transform@0.1.0#describe
func postDescribe(unsafe.Pointer) { release() }

//go:wasmexport cabi_post_streamsync:transform/transform@0.1.0#init
func postInit(unsafe.Pointer) { release() }

//go:wasmexport cabi_post_streamsync:transform/transform@0.1.0#open
func postOpen(unsafe.Pointer) { release() }

//go:wasmexport cabi_post_streamsync:transform/transform@0.1.0#apply
func postApply(unsafe.Pointer) { release() }

//go:wasmimport streamsync:transform/log@0.1.0 emit
func importEmit(level uint32, message unsafe.Pointer, length uint32)

//go:wasmimport streamsync:transform/metrics@0.1.0 add
func importAdd(counter unsafe.Pointer, length, delta uint32)

func emit(level uint32, message string) {
	importEmit(level, unsafe.Pointer(unsafe.StringData(message)), uint32(len(message)))
}

// LogDebug writes a line for whoever develops the transform. Lines leave it when the batch has succeeded; keep rows' values out of them.
func LogDebug(message string) { emit(0, message) }

// LogInfo writes a line.
func LogInfo(message string) { emit(1, message) }

// LogWarn writes a line for whoever operates the engine.
func LogWarn(message string) { emit(2, message) }

// LogError writes a line for whoever must act.
func LogError(message string) { emit(3, message) }

// Count adds to a counter. Names are capped by the host and have no labels, so they must be few and constant.
func Count(counter string, delta uint32) {
	importAdd(unsafe.Pointer(unsafe.StringData(counter)), uint32(len(counter)), delta)
}
