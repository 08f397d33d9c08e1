// kafkajs. contract.py says what is tried.

const { Kafka, CompressionTypes, CompressionCodecs, ConfigResourceTypes, logLevel } = require('kafkajs')
const lz4 = require('lz4js')
const SnappyCodec = require('kafkajs-snappy')
const contract = require('./contract.js')

// kafkajs itself has gzip alone.
CompressionCodecs[CompressionTypes.Snappy] = SnappyCodec
CompressionCodecs[CompressionTypes.LZ4] = () => ({
  compress: async ({ buffer }) => Buffer.from(lz4.compress(buffer)),
  decompress: async (buffer) => Buffer.from(lz4.decompress(buffer)),
})
const CODECS = {
  none: CompressionTypes.None,
  gzip: CompressionTypes.GZIP,
  snappy: CompressionTypes.Snappy,
  lz4: CompressionTypes.LZ4,
}

const toMessages = (values) => values.map((value) => ({ value, partition: 0 }))

class Client {
  name = `kafkajs ${require('kafkajs/package.json').version}`
  lacks = ['write and read, zstd', 'read in a group of the consumer protocol']

  constructor(bootstrap) {
    this.kafka = new Kafka({ brokers: bootstrap.split(','), logLevel: logLevel.NOTHING })
    this.admin = this.kafka.admin()
  }

  async write(topic, values, { codec = 'none', idempotent = false } = {}) {
    const producer = this.kafka.producer({ idempotent })
    await producer.connect()
    await producer.send({ topic, messages: toMessages(values), compression: CODECS[codec] })
    await producer.disconnect()
  }

  // It reads in groups alone.
  async read(topic, count, { offset = 0, committed = false } = {}) {
    const member = await this.member(`${topic}-${committed}`, topic, 'classic', { readUncommitted: !committed })
    member.consumer.seek({ topic, partition: 0, offset: String(offset) })
    const read = []
    while (read.push(...member.poll()) < count) await contract.sleep(20)
    await member.close()
    return read
  }

  async member(groupId, topic, protocol, settings = {}) {
    // It takes notice of a rebalance, or of disconnect(), between two fetches.
    const timing = { maxWaitTimeInMs: 200, heartbeatInterval: 300, sessionTimeout: 6000 }
    const consumer = this.kafka.consumer({ groupId, ...timing, ...settings })
    const member = new Member(consumer)
    await consumer.connect()
    await consumer.subscribe({ topic, fromBeginning: true })
    await consumer.run({ autoCommit: false, eachMessage: async (message) => member.take(message) })
    return member
  }

  async transactional(transactionalId) {
    const producer = this.kafka.producer({ transactionalId, maxInFlightRequests: 1, idempotent: true })
    await producer.connect()
    return {
      begin: async () => new Transaction(await producer.transaction()),
      close: () => producer.disconnect(),
    }
  }

  createTopic(topic, numPartitions) {
    return this.admin.createTopics({ topics: [{ topic, numPartitions }] })
  }

  async partitions(topic) {
    const { topics } = await this.admin.fetchTopicMetadata({ topics: [topic] })
    return topics[0].partitions.length
  }

  topics() {
    return this.admin.listTopics()
  }

  deleteTopic(topic) {
    return this.admin.deleteTopics({ topics: [topic] })
  }

  extend(topic, count) {
    return this.admin.createPartitions({ topicPartitions: [{ topic, count }] })
  }

  configure(topic, name, value) {
    const altered = { type: ConfigResourceTypes.TOPIC, name: topic, configEntries: [{ name, value }] }
    return this.admin.alterConfigs({ resources: [altered] })
  }

  async setting(topic, name) {
    const described = { type: ConfigResourceTypes.TOPIC, name: topic, configNames: [name] }
    const { resources } = await this.admin.describeConfigs({ resources: [described] })
    return resources[0].configEntries[0].configValue
  }

  async offsetAt(topic, timeMs) {
    const found = await this.admin.fetchTopicOffsetsByTimestamp(topic, timeMs)
    return Number(found.find((each) => each.partition === 0).offset)
  }

  async deleteRecords(topic, before) {
    // Before it knows the topic, it finds no leader and gives up.
    await this.admin.fetchTopicOffsets(topic)
    await this.admin.deleteTopicRecords({ topic, partitions: [{ partition: 0, offset: String(before) }] })
  }

  async groups() {
    const { groups } = await this.admin.listGroups()
    return groups.map((group) => group.groupId)
  }

  async groupState(group) {
    const { groups } = await this.admin.describeGroups([group])
    return groups[0].state
  }

  deleteGroup(group) {
    return this.admin.deleteGroups([group])
  }
}

class Member {
  constructor(consumer) {
    this.consumer = consumer
    this.read = []
    this.assigned = []
    // By topic and partition, what to commit.
    this.positions = new Map()
    consumer.on(consumer.events.GROUP_JOIN, ({ payload }) => {
      this.groupId = payload.groupId
      this.assigned = Object.values(payload.memberAssignment).flat()
    })
  }

  take({ topic, partition, message }) {
    this.read.push(message.value.toString())
    this.positions.set(`${topic} ${partition}`, { topic, partition, offset: String(Number(message.offset) + 1) })
  }

  poll() {
    return this.read.splice(0)
  }

  partitions() {
    return this.assigned
  }

  commit() {
    return this.consumer.commitOffsets([...this.positions.values()])
  }

  close() {
    return this.consumer.disconnect()
  }
}

class Transaction {
  constructor(transaction) {
    this.transaction = transaction
    this.commit = () => transaction.commit()
    this.abort = () => transaction.abort()
  }

  write(topic, values) {
    return this.transaction.send({ topic, messages: toMessages(values) })
  }

  writeOffsets(member) {
    const topics = [...member.positions.values()].map(({ topic, ...partition }) => ({ topic, partitions: [partition] }))
    return this.transaction.sendOffsets({ consumerGroupId: member.groupId, topics })
  }
}

async function main(bootstrap, name) {
  const client = new Client(bootstrap)
  await client.admin.connect()
  await contract.run(client, name)
}

main(...process.argv.slice(2))
