// What contract.py says, in JavaScript. Values are strings here.

const CODECS = ['none', 'gzip', 'snappy', 'lz4', 'zstd']
const LIMIT = 25
const SOON = 12
const LOOK_AGAIN_MS = 100

exports.sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms))

function values(kind, count = 20) {
  return Array.from({ length: count }, (_, number) => `${kind} ${number} `.repeat(20))
}

function equal(read, wanted) {
  if (JSON.stringify([...read].sort()) !== JSON.stringify([...wanted].sort())) {
    const shown = read.slice(0, 3).map((value) => value.slice(0, 20))
    throw new Error(`read ${read.length} values instead of ${wanted.length}, the first of them ${shown}`)
  }
}

async function until(met, what) {
  const end = Date.now() + SOON * 1000
  while (!(await met())) {
    if (Date.now() > end) throw new Error(`${what} did not happen`)
    await exports.sleep(LOOK_AGAIN_MS)
  }
}

// Waits until `tell` tells what is wanted. Some clients ask the node that knows least.
async function told(wanted, tell) {
  let answer
  const right = async () => wanted((answer = await tell()))
  await until(right, 'the right answer').catch((error) => {
    throw new Error(`${error.message}, but ${answer}`)
  })
}

async function consume(client, topic, codec) {
  const written = values(codec)
  await client.write(topic, written, { codec })
  equal(await client.read(topic, written.length), written)
}

async function idempotent(client, topic) {
  const written = values('idempotent')
  await client.write(topic, written, { idempotent: true })
  equal(await client.read(topic, written.length), written)
}

async function fromOffset(client, topic) {
  const written = values('offset')
  await client.write(topic, written)
  equal(await client.read(topic, written.length - 5, { offset: 5 }), written.slice(5))
}

async function byTime(client, topic) {
  await client.write(topic, values('before'))
  await exports.sleep(20)
  const between = Date.now()
  await exports.sleep(20)
  await client.write(topic, values('after'))
  await told((offset) => offset === values('before').length, () => client.offsetAt(topic, between))
}

async function deleteRecords(client, topic) {
  await client.write(topic, values('deleted'))
  await client.deleteRecords(topic, 5)
  await told((offset) => offset === 5, () => client.offsetAt(topic, 0))
}

// Reads all that the group has not read yet, which must be what is wanted. Then does something as that member.
async function readAsMember(client, group, topic, wanted, then, protocol = 'classic') {
  const member = await client.member(group, topic, protocol)
  const read = []
  try {
    await until(() => read.push(...member.poll()) >= wanted.length, `reading ${wanted.length} values`)
    equal(read, wanted)
    await then(member)
  } finally {
    await member.close()
  }
}

// Whoever comes next goes on where the one before has committed.
async function group(client, topic, protocol = 'classic') {
  for (const kind of ['before', 'after']) {
    const written = values(kind)
    await client.write(topic, written)
    await readAsMember(client, topic, topic, written, (member) => member.commit(), protocol)
  }
}

// Two members share the partitions. When one of them leaves, the other one has all.
async function rebalance(client, topic) {
  const members = [await client.member(`${topic}-shared`, topic, 'classic')]
  const shared = (wanted) => () => {
    const shares = members.map((member) => [...member.partitions()].sort())
    return JSON.stringify(shares.sort()) === JSON.stringify(wanted)
  }
  try {
    await until(shared([[0, 1]]), 'assigning all partitions to the only member')
    members.push(await client.member(`${topic}-shared`, topic, 'classic'))
    await until(shared([[0], [1]]), 'sharing the partitions')
    await members.pop().close()
    await until(shared([[0, 1]]), 'assigning all partitions to the member that is left')
  } finally {
    for (const member of members) await member.close()
  }
}

async function listGroups(client, group) {
  await told((names) => names.includes(group), () => client.groups())
  await told((state) => state.toLowerCase() === 'empty', () => client.groupState(group))
}

async function deleteGroup(client, group) {
  await client.deleteGroup(group)
  await told((names) => !names.includes(group), () => client.groups())
}

async function topicsAdmin(client, topic) {
  await client.createTopic(topic, 3)
  await told((count) => count === 3, () => client.partitions(topic))
  await client.deleteTopic(topic)
  await told((names) => !names.includes(topic), () => client.topics())
}

async function extend(client, topic) {
  await client.extend(topic, 5)
  await told((count) => count === 5, () => client.partitions(topic))
}

async function settings(client, topic) {
  await client.configure(topic, 'retention.ms', '100000')
  await told((value) => value === '100000', () => client.setting(topic, 'retention.ms'))
}

// Readers of what is committed see nothing of an aborted transaction; other readers do.
async function transactions(client, topic) {
  const producer = await client.transactional(topic)
  for (const kind of ['committed', 'aborted', 'committed later']) {
    const transaction = await producer.begin()
    await transaction.write(topic, values(kind))
    await (kind === 'aborted' ? transaction.abort() : transaction.commit())
  }
  await producer.close()
  const committed = [...values('committed'), ...values('committed later')]
  equal(await client.read(topic, committed.length, { committed: true }), committed)
  const everything = [...committed, ...values('aborted')]
  equal(await client.read(topic, everything.length), everything)
}

// What a group has read counts as read once the transaction with its offsets is committed, and not before.
async function exactlyOnce(client, topic) {
  const producer = await client.transactional(topic)
  const written = values('first')
  await client.write(topic, written)
  for (const end of ['abort', 'commit']) {
    await readAsMember(client, topic, topic, written, async (member) => {
      const transaction = await producer.begin()
      await transaction.writeOffsets(member)
      await transaction[end]()
    })
  }
  await producer.close()
  const later = values('later')
  await client.write(topic, later)
  await readAsMember(client, topic, topic, later, () => {})
}

// What is tried, in this order, by the names that the table of all clients has.
function features(client, name) {
  return [
    ...CODECS.map((codec) => [`write and read, ${codec}`, () => consume(client, `${name}-${codec}`, codec)]),
    ['write idempotently', () => idempotent(client, `${name}-idempotent`)],
    ['read from an offset', () => fromOffset(client, `${name}-offset`)],
    ['find an offset by time', () => byTime(client, `${name}-times`)],
    ['delete records', () => deleteRecords(client, `${name}-settings`)],
    ['read in a group and go on from its offsets', () => group(client, `${name}-groups`)],
    ['rebalance when members come and go', () => rebalance(client, `${name}-groups`)],
    ['read in a group of the consumer protocol', () => group(client, `${name}-consumers`, 'consumer')],
    ['list and describe groups', () => listGroups(client, `${name}-groups`)],
    ['delete groups', () => deleteGroup(client, `${name}-groups`)],
    ['create, describe and delete topics', () => topicsAdmin(client, `${name}-made`)],
    ['add partitions', () => extend(client, `${name}-settings`)],
    ['alter and describe settings of topics', () => settings(client, `${name}-settings`)],
    ['commit and abort transactions', () => transactions(client, `${name}-transactions`)],
    ['commit offsets in transactions', () => exactlyOnce(client, `${name}-exactly-once`)],
  ]
}

// Tries a feature, and leaves it behind if it takes too long.
async function attempt(feature) {
  const late = exports.sleep(LIMIT * 1000).then(() => `not done within ${LIMIT} s`)
  const done = feature().then(() => 'ok', (error) => `${error.name}: ${error.message}`)
  return Promise.race([done, late])
}

// Tries all features but those that the client `lacks`, and ends the process.
exports.run = async (client, name) => {
  const outcomes = []
  for (const [each, feature] of features(client, name)) {
    if (!client.lacks.includes(each)) outcomes.push([each, await attempt(feature)])
  }
  // What was left behind must not keep the process.
  process.stdout.write(JSON.stringify({ client: client.name, features: outcomes }) + '\n', () => process.exit(0))
}
