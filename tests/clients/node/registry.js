// Two clients of Confluent's registry against a running gateway: register, evolve, refuse, look up, encode, decode; with
// KAFKA set also produce and read back. What is not as it should be is an assertion: exit status 1.
'use strict';

const assert = require('node:assert/strict');
const confluent = require('@confluentinc/schemaregistry');
const { SchemaRegistry, SchemaType } = require('@kafkajs/confluent-schema-registry');
const { Kafka, logLevel } = require('kafkajs');

const { REGISTRY, CLIENT, SECRET, KAFKA } = process.env;

const record = (...fields) => ({ type: 'record', name: 'Call', namespace: 'gov.hotline', fields });
const ONE = record({ name: 'ticket', type: 'string' }, { name: 'minutes', type: 'int' });
const TWO = record(...ONE.fields, { name: 'topic', type: ['null', 'string'], default: null });
const BREAKS = record(...TWO.fields, { name: 'town', type: 'string' });
const CALL = { ticket: 'T-1', minutes: 7, topic: 'Straßenlicht 路灯' };

async function refused(status, call) {
  await assert.rejects(call, (error) => {
    assert.equal(error.status ?? error.response?.status, status, error.message);
    return true;
  });
}

async function withConfluents(topic) {
  const subject = `${topic}-value`;
  const client = confluent.SchemaRegistryClient.newClient({
    baseURLs: [REGISTRY],
    basicAuthCredentials: { credentialsSource: 'USER_INFO', userInfo: `${CLIENT}:${SECRET}` },
    maxRetries: 0,
  });
  const schema = (value) => ({ schemaType: 'AVRO', schema: JSON.stringify(value) });
  const first = await client.register(subject, schema(ONE));
  assert.equal(await client.testCompatibility(subject, 1, schema(TWO)), true);
  const second = await client.register(subject, schema(TWO));
  assert.ok(second > first);
  await refused(409, client.register(subject, schema(BREAKS)));
  assert.equal(await client.testSubjectCompatibility(subject, schema(BREAKS)), false);
  assert.equal(await client.getId(subject, schema(ONE)), first);
  assert.equal(await client.getVersion(subject, schema(TWO)), 2);
  assert.deepEqual(await client.getAllVersions(subject), [1, 2]);
  assert.ok((await client.getAllSubjects()).includes(subject));
  const latest = await client.getLatestSchemaMetadata(subject);
  assert.deepEqual(JSON.parse(latest.schema), TWO);
  assert.deepEqual(JSON.parse((await client.getByGuid(latest.guid)).schema), TWO);
  await client.updateCompatibility(subject, confluent.Compatibility.FULL);
  assert.equal(await client.getCompatibility(subject), 'FULL');
  await refused(403, client.updateDefaultCompatibility(confluent.Compatibility.NONE));
  await refused(403, client.register('foreign.call.inbox-value', schema(ONE)));

  const serializer = new confluent.AvroSerializer(client, confluent.SerdeType.VALUE, { useLatestVersion: true });
  const reader = new confluent.AvroDeserializer(client, confluent.SerdeType.VALUE, {});
  const bytes = await serializer.serialize(topic, CALL);
  assert.equal(bytes.readUInt8(0), 0);
  assert.equal(bytes.readUInt32BE(1), second);
  assert.deepEqual({ ...(await reader.deserialize(topic, bytes)) }, CALL);
  if (KAFKA) await sentAndRead(topic, bytes, (value) => reader.deserialize(topic, value));

  await client.deleteSubjectVersion(subject, 2);
  await refused(404, client.getVersion(`${topic}-none`, schema(ONE)));
  assert.deepEqual(await client.deleteSubject(subject), [1]);
  await client.deleteSubject(subject, true);
}

async function withKafkajs(topic) {
  const subject = `${topic}-value`;
  const registry = new SchemaRegistry({
    host: REGISTRY,
    auth: { username: CLIENT, password: SECRET },
    retry: { retries: 0 },
  });
  const schema = (value) => ({ type: SchemaType.AVRO, schema: JSON.stringify(value) });
  const first = await registry.register(schema(ONE), { subject });
  const second = await registry.register(schema(TWO), { subject });
  assert.ok(second.id > first.id);
  await refused(409, registry.register(schema(BREAKS), { subject }));
  assert.equal(await registry.getRegistryId(subject, 1), first.id);
  assert.equal(await registry.getRegistryIdBySchema(subject, schema(TWO)), second.id);
  assert.equal(await registry.getLatestSchemaId(subject), second.id);
  await refused(403, registry.register(schema(ONE), { subject: 'foreign.call.inbox-value' }));

  const bytes = await registry.encode(second.id, CALL);
  const fresh = new SchemaRegistry({ host: REGISTRY, auth: { username: CLIENT, password: SECRET } });
  assert.deepEqual({ ...(await fresh.decode(bytes)) }, CALL);
  if (KAFKA) await sentAndRead(topic, bytes, (value) => fresh.decode(value));
}

async function sentAndRead(topic, bytes, decode) {
  const kafka = new Kafka({ brokers: [KAFKA], logLevel: logLevel.NOTHING });
  const admin = kafka.admin();
  await admin.connect();
  await admin.createTopics({ topics: [{ topic, numPartitions: 1, replicationFactor: 1 }] });
  await admin.disconnect();
  const producer = kafka.producer();
  await producer.connect();
  await producer.send({ topic, messages: [{ key: 'k', value: bytes }] });
  await producer.disconnect();
  const consumer = kafka.consumer({ groupId: `${topic}-readers` });
  await consumer.connect();
  await consumer.subscribe({ topics: [topic], fromBeginning: true });
  const read = new Promise((resolve, reject) => {
    const late = setTimeout(() => reject(new Error('nothing was read within a minute')), 60_000);
    consumer.run({
      eachMessage: async ({ message }) => {
        clearTimeout(late);
        decode(message.value).then(resolve, reject);
      },
    });
  });
  assert.deepEqual({ ...(await read) }, CALL);
  await consumer.disconnect();
}

async function main() {
  await withConfluents(`hotline.call_a${process.env.SUFFIX ?? ''}.inbox`);
  console.log('@confluentinc/schemaregistry: ok');
  await withKafkajs(`hotline.call_b${process.env.SUFFIX ?? ''}.inbox`);
  console.log('@kafkajs/confluent-schema-registry: ok');
}

main().then(
  () => process.exit(0),
  (error) => {
    console.error(error);
    process.exit(1);
  },
);
