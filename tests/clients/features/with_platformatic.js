// @platformatic/kafka. contract.py says what is tried.

const {
  Admin,
  ConfigResourceTypes: { TOPIC },
  Consumer,
  FetchIsolationLevels: { READ_COMMITTED, READ_UNCOMMITTED },
  IncrementalAlterConfigOperationTypes: { SET },
  Producer,
  stringDeserializers,
  stringSerializers,
} = require('@platformatic/kafka')
const { dependencies } = require('../package.json')
const contract = require('./contract.js')

// For groups of the consumer protocol, the node says when.
const CLASSIC = { heartbeatInterval: 300, sessionTimeout: 6000, rebalanceTimeout: 6000 }

const toMessages = (topic, values) => values.map((value) => ({ topic, value, partition: 0 }))

class Client {
  name = `@platformatic/kafka ${dependencies['@platformatic/kafka']}`
  // Node has zstd from version 22 on.
  lacks = ['write and read, zstd']

  constructor(bootstrap) {
    this.settings = { clientId: 'features', bootstrapBrokers: bootstrap.split(',') }
    this.admin = new Admin(this.settings)
  }

  async write(topic, values, { codec = 'none', idempotent = false } = {}) {
    const producer = new Producer({ ...this.settings, serializers: stringSerializers, idempotent })
    await producer.send({ messages: toMessages(topic, values), compression: codec })
    await producer.close()
  }

  // It reads in groups alone.
  async read(topic, count, { offset = 0, committed = false } = {}) {
    const offsets = [0, 1].map((partition) => ({ topic, partition, offset: BigInt(partition === 0 ? offset : 0) }))
    const isolationLevel = committed ? READ_COMMITTED : READ_UNCOMMITTED
    const settings = { mode: 'manual', offsets, isolationLevel }
    const member = await this.member(`${topic}-${committed}`, topic, 'classic', settings)
    const read = []
    while (read.push(...member.poll()) < count) await contract.sleep(20)
    await member.close()
    return read
  }

  async member(groupId, topic, groupProtocol, settings = { mode: 'committed', fallbackMode: 'earliest' }) {
    const group = { groupId, groupProtocol, maxWaitTime: 200, ...(groupProtocol === 'classic' && CLASSIC) }
    const consumer = new Consumer({ ...this.settings, ...group, deserializers: stringDeserializers })
    return new Member(consumer, await consumer.consume({ topics: [topic], autocommit: false, ...settings }))
  }

  async transactional(transactionalId) {
    const settings = { ...this.settings, serializers: stringSerializers, idempotent: true, transactionalId }
    const producer = new Producer(settings)
    return {
      begin: async () => new Transaction(await producer.beginTransaction()),
      close: () => producer.close(),
    }
  }

  createTopic(topic, partitions) {
    return this.admin.createTopics({ topics: [topic], partitions, replicas: -1 })
  }

  async partitions(topic) {
    const { topics } = await this.admin.metadata({ topics: [topic], forceUpdate: true })
    return topics.get(topic).partitionsCount
  }

  topics() {
    return this.admin.listTopics()
  }

  deleteTopic(topic) {
    return this.admin.deleteTopics({ topics: [topic] })
  }

  extend(topic, count) {
    return this.admin.createPartitions({ topics: [{ name: topic, count, assignments: null }] })
  }

  configure(topic, name, value) {
    const configs = [{ name, value, configOperation: SET }]
    return this.admin.incrementalAlterConfigs({ resources: [{ resourceType: TOPIC, resourceName: topic, configs }] })
  }

  async setting(topic, name) {
    const resources = [{ resourceType: TOPIC, resourceName: topic, configurationKeys: [name] }]
    const [described] = await this.admin.describeConfigs({ resources })
    return described.configs[0].value
  }

  async offsetAt(topic, timeMs) {
    const partitions = [{ partitionIndex: 0, timestamp: BigInt(timeMs) }]
    const [found] = await this.admin.listOffsets({ topics: [{ name: topic, partitions }] })
    return Number(found.partitions[0].offset)
  }

  deleteRecords(topic, before) {
    const partitions = [{ partition: 0, offset: BigInt(before) }]
    return this.admin.deleteRecords({ topics: [{ name: topic, partitions }] })
  }

  async groups() {
    return [...(await this.admin.listGroups()).keys()]
  }

  async groupState(group) {
    return (await this.admin.describeGroups({ groups: [group] })).get(group).state
  }

  deleteGroup(group) {
    return this.admin.deleteGroups({ groups: [group] })
  }
}

class Member {
  constructor(consumer, stream) {
    this.consumer = consumer
    this.stream = stream
    this.read = []
    // By partition, the last message that poll() has handed out.
    this.last = new Map()
    stream.on('data', (message) => this.read.push(message))
  }

  poll() {
    const messages = this.read.splice(0)
    for (const message of messages) this.last.set(message.partition, message)
    return messages.map((message) => message.value)
  }

  partitions() {
    return (this.consumer.assignments ?? []).flatMap((each) => each.partitions)
  }

  async commit() {
    for (const message of this.last.values()) await message.commit()
  }

  async close() {
    await this.stream.close()
    await this.consumer.close(true)
  }
}

class Transaction {
  constructor(transaction) {
    this.transaction = transaction
    this.commit = () => transaction.commit()
    this.abort = () => transaction.abort()
  }

  write(topic, values) {
    return this.transaction.send({ messages: toMessages(topic, values) })
  }

  async writeOffsets(member) {
    await this.transaction.addConsumer(member.consumer)
    for (const message of member.last.values()) await this.transaction.addOffset(message)
  }
}

const [bootstrap, name] = process.argv.slice(2)
contract.run(new Client(bootstrap), name)
