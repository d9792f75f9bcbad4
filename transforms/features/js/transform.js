// All that an SDK can do, done once: see `transforms/features/rust`, which does the same.

import {
  ABSENT, ConfigError, Decimal, Double, Json, Reject, Unsigned, Year, defineTransform, kind, log, metrics, trim,
} from './streamsync.js';

const KINDS = [
  'boolean', 'int', 'uint', 'double', 'decimal', 'text', 'bytes', 'bits', 'json', 'geometry', 'date', 'time', 'datetime', 'timestamp', 'year',
];
const KIND_OF = { int: kind.bigint, uint: kind.unsigned, year: kind.integer };
const nullOr = (make) => (value) => (value === null ? null : make(value));
const WRAPPED = { uint: nullOr((value) => new Unsigned(value)), double: nullOr((value) => new Double(value)) };

/** What is no value. Each must be refused where it is written, because elsewhere nobody would find it. */
const mistakes = (changes, document) => ({
  'Json of an object': () => new Json({ a: 1 }),
  'Decimal with an exponent': () => new Decimal(1e21),
  'Decimal of NaN': () => new Decimal(NaN),
  'Decimal of nothing': () => new Decimal(undefined),
  'Decimal that ends with a point': () => new Decimal('1.'),
  'Decimal of 513 digits': () => new Decimal('1'.repeat(513)),
  'compared decimals': () => new Decimal('9.00') > new Decimal('10.00'),
  'added decimals': () => new Decimal('9.00') + new Decimal('10.00'),
  'equal decimals': () => new Decimal('9.00') == 9,
  'minor units of a fraction': () => Decimal.fromMinorUnits(0.5, 2),
  'minor units of negative digits': () => Decimal.fromMinorUnits(5n, -2),
  'negative time to live': () => changes.put(document, {}, { ttlSeconds: -1 }),
  'time to live of NaN': () => changes.put(document, {}, { ttlSeconds: NaN }),
  'time to live of a text': () => changes.put(document, {}, { ttlSeconds: '60' }),
});

/** Whether it throws a mistake, in a line of this file. */
function refused(mistake) {
  try {
    mistake();
  } catch (error) {
    return error instanceof TypeError && error.message.length > 20 && error.stack.includes('transform.js');
  }
  return false;
}

export const transform = defineTransform({
  name: 'features',
  version: '0.1.0',

  readConfig({ ratio = null, nested = null, ...others }) {
    for (const name in others) throw new ConfigError(`there is no setting "${name}"`);
    if (ratio !== null && typeof ratio !== 'number') throw new ConfigError('"ratio" is no number');
    return { ratio: ratio === null ? null : new Double(ratio), nested };
  },

  open(table, config) {
    table.seeDeletes();
    const whatColumn = table.column('what', kind.text);
    const textBefore = table.columnBefore('f_text', kind.text);
    const typed = Object.fromEntries(KINDS.map((name) => [name, table.column(`f_${name}`, KIND_OF[name] ?? kind[name])]));
    const any = Object.fromEntries(KINDS.map((name) => [name, table.column(`f_${name}`)]));
    const all = table.document().copy('id').copyAs('f_text', 'copied.text', kind.text)
      .field(...KINDS.map((name) => `typed.${name}`), ...KINDS.map((name) => `any.${name}`))
      .field('meta.op', 'meta.offset', 'meta.partition', 'meta.changed_at', 'meta.presence');
    const keyed = table.documentFor('keyed', 'nowhere').keyCopy('id').key('part').copy('what').field('value');
    const whole = table.documentFor('whole').field('');
    const key = Array.from(table.schema.primaryKey, (index) => table.schema.columns[index].name).join();
    const targets = table.context.targets.map((target) => target.name).join();

    const does = {
      all(row, changes) {
        const values = {};
        for (const name of KINDS) {
          const value = row.get(typed[name]);
          values[`typed.${name}`] = WRAPPED[name] ? WRAPPED[name](value) : value;
        }
        const presence = row.presence(textBefore);
        for (const name of KINDS) values[`any.${name}`] = row.get(any[name]);
        changes.put(all, {
          ...values,
          'meta.op': row.op,
          'meta.offset': new Unsigned(row.offset),
          'meta.partition': row.partition,
          'meta.changed_at': row.changedAt,
          'meta.presence': presence === ABSENT ? 'absent' : presence === null ? 'null' : 'present',
        });
      },
      ttl: (row, changes) => changes.put(keyed, { part: 'a', value: row.get(typed.text) }, { ttlSeconds: 60 }),
      two(row, changes) {
        changes.put(keyed, { part: 'a' });
        changes.put(keyed, { part: 'b', value: true });
        changes.put(all, { 'meta.op': 'two' });
      },
      delete: (row, changes) => changes.delete(keyed, { part: 'a' }),
      whole: (row, changes) => changes.put(whole, { '': row.get(typed.json) }),
      nested: (row, changes) => changes.put(whole, { '': { a: [1, -2.5, 'é "q"', true, null, {}], b: { c: [] } } }),
      absent: (row, changes) => changes.put(all, { 'typed.int': ABSENT, 'typed.text': undefined }),
      minor: (row, changes) => changes.put(all, { 'typed.int': row.get(typed.decimal)?.minorUnits(2) }),
      'from minor'(row, changes) {
        const units = row.get(typed.int);
        const decimal = (digits) => (units === null ? null : Decimal.fromMinorUnits(units, digits));
        changes.put(all, { 'meta.op': decimal(0), 'meta.presence': decimal(2), 'meta.partition': decimal(20) });
      },
      year: (row, changes) => changes.put(all, { 'meta.op': new Year(2155) }),
      table: (row, changes) => changes.put(all, { 'meta.op': key, 'meta.presence': targets }),
      config: (row, changes) => changes.put(all, { 'meta.op': config.ratio, 'meta.presence': config.nested }),
      mistakes(row, changes) {
        const passed = Object.entries(mistakes(changes, all)).filter(([, mistake]) => !refused(mistake));
        changes.put(all, { 'meta.op': passed.map(([name]) => name).join() });
      },
      'ttl alone'() {
        throw new Reject('ttl-without-put', 'the transform sets a time to live where no put is open: set it after the put that it is of');
      },
      case(row, changes) {
        const text = row.get(typed.text);
        changes.put(all, { 'meta.op': trim(text), 'meta.presence': text.toUpperCase(), 'meta.partition': text.toLowerCase() });
      },
      log(row, changes) {
        log.debug('debug');
        log.info('info');
        log.warn('warn');
        log.error('error');
        metrics.add('seen', 2);
        metrics.add('seen', 3);
        changes.skip();
      },
      skip: (row, changes) => changes.skip(),
      reject(row, changes) {
        changes.put(all, { 'meta.op': 'taken back' });
        throw new Reject('on-purpose', 'é, on purpose');
      },
      'field of a delete': (row, changes) => changes.delete(keyed, { part: 'a', value: 1 }),
    };

    return (row, changes) => {
      if (row.op === 'delete') {
        changes.delete(all);
        changes.put(keyed, { part: 'gone', value: row.get(textBefore) });
      } else {
        does[row.get(whatColumn)]?.(row, changes);
      }
    };
  },
});
