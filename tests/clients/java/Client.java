import com.fasterxml.jackson.core.type.TypeReference;
import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.time.Duration;
import java.util.ArrayList;
import java.util.Collection;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.Set;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.Future;
import java.util.concurrent.atomic.AtomicInteger;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.admin.AlterConfigOp;
import org.apache.kafka.clients.admin.ConfigEntry;
import org.apache.kafka.clients.admin.NewPartitions;
import org.apache.kafka.clients.admin.NewTopic;
import org.apache.kafka.clients.admin.OffsetSpec;
import org.apache.kafka.clients.admin.RecordsToDelete;
import org.apache.kafka.clients.consumer.ConsumerRebalanceListener;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.consumer.OffsetAndMetadata;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.GroupState;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.config.ConfigResource;
import org.apache.kafka.common.serialization.StringDeserializer;
import org.apache.kafka.common.serialization.StringSerializer;
import org.apache.kafka.common.utils.AppInfoParser;

/** Kafka's own client, which does what tests/clients/remote.py asks. Usage: java Client BOOTSTRAP */
public class Client {
    static final ObjectMapper JSON = new ObjectMapper();
    static final Duration A_MOMENT = Duration.ofMillis(100);

    final String bootstrap;
    final Admin admin;
    final Map<Integer, Member> members = new ConcurrentHashMap<>();
    final Map<Integer, KafkaProducer<String, String>> producers = new ConcurrentHashMap<>();
    final AtomicInteger lastId = new AtomicInteger();

    Client(String bootstrap) {
        this.bootstrap = bootstrap;
        admin = Admin.create(Map.of("bootstrap.servers", bootstrap));
    }

    public static void main(String[] arguments) throws Exception {
        var client = new Client(arguments[0]);
        var calls = new BufferedReader(new InputStreamReader(System.in));
        for (String line; (line = calls.readLine()) != null; ) {
            var call = JSON.readTree(line);
            new Thread(() -> client.answer(call)).start();
        }
        // Whoever asked is gone, maybe killed: no member leaves its group, and no transaction is aborted.
        Runtime.getRuntime().halt(0);
    }

    void answer(JsonNode call) {
        var answer = new HashMap<String, Object>();
        answer.put("id", call.get("id"));
        try {
            answer.put("answer", perform(call.get("call").asText(), call.get("with")));
        } catch (Throwable error) {
            answer.put("error", (error instanceof ExecutionException ? error.getCause() : error).toString());
        }
        synchronized (System.out) {
            System.out.println(JSON.valueToTree(answer).toString());
        }
    }

    Object perform(String call, JsonNode with) throws Exception {
        return switch (call) {
            case "name" -> "kafka-clients " + AppInfoParser.getVersion();
            case "write" -> write(partition(with), texts(with.get(2)), settings(with.get(3)));
            case "read" -> read(partition(with), with.get(2).asLong(), with.get(3).asInt(), settings(with.get(4)));
            case "member", "poll", "assigned", "commit", "leave" -> inGroup(call, with);
            case "transactional", "begin", "send", "send_offsets", "commit_transaction", "abort_transaction", "close" ->
                inTransaction(call, with);
            default -> administer(call, with);
        };
    }

    Object inGroup(String call, JsonNode with) {
        if (call.equals("member")) {
            var id = lastId.incrementAndGet();
            members.put(id, new Member(consumer(settings(with.get(1))), with.get(0).asText()));
            return id;
        }
        var member = members.get(with.get(0).asInt());
        switch (call) {
            case "poll" -> {
                return member.poll();
            }
            case "assigned" -> {
                return partitions(member.consumer.assignment());
            }
            case "commit" -> member.consumer.commitSync();
            default -> member.consumer.close();
        }
        return null;
    }

    Object inTransaction(String call, JsonNode with) throws Exception {
        if (call.equals("transactional")) {
            var id = lastId.incrementAndGet();
            producers.put(id, producer(settings(with.get(0))));
            producers.get(id).initTransactions();
            return id;
        }
        var producer = producers.get(with.get(0).asInt());
        switch (call) {
            case "begin" -> producer.beginTransaction();
            case "send" -> send(producer, new TopicPartition(with.get(1).asText(), with.get(2).asInt()), texts(with.get(3)));
            case "send_offsets" -> {
                var consumer = members.get(with.get(1).asInt()).consumer;
                var positions = new HashMap<TopicPartition, OffsetAndMetadata>();
                consumer.assignment().forEach(each -> positions.put(each, new OffsetAndMetadata(consumer.position(each))));
                producer.sendOffsetsToTransaction(positions, consumer.groupMetadata());
            }
            case "commit_transaction" -> producer.commitTransaction();
            case "abort_transaction" -> producer.abortTransaction();
            default -> producer.close();
        }
        return null;
    }

    Object administer(String call, JsonNode with) throws Exception {
        var name = with.path(0).asText();
        var config = new ConfigResource(ConfigResource.Type.TOPIC, name);
        return switch (call) {
            case "create_topic" -> {
                var topic = new NewTopic(name, Optional.of(with.get(1).asInt()), Optional.empty());
                yield admin.createTopics(List.of(topic)).all().get();
            }
            case "partitions" ->
                admin.describeTopics(List.of(name)).topicNameValues().get(name).get().partitions().size();
            case "topics" -> admin.listTopics().names().get();
            case "delete_topic" -> admin.deleteTopics(List.of(name)).all().get();
            case "extend" ->
                admin.createPartitions(Map.of(name, NewPartitions.increaseTo(with.get(1).asInt()))).all().get();
            case "configure" -> {
                var entry = new ConfigEntry(with.get(1).asText(), with.get(2).asText());
                var set = new AlterConfigOp(entry, AlterConfigOp.OpType.SET);
                yield admin.incrementalAlterConfigs(Map.of(config, List.of(set))).all().get();
            }
            case "setting" ->
                admin.describeConfigs(List.of(config)).all().get().get(config).get(with.get(1).asText()).value();
            case "offset_at" -> {
                var at = OffsetSpec.forTimestamp(with.get(2).asLong());
                yield admin.listOffsets(Map.of(partition(with), at)).partitionResult(partition(with)).get().offset();
            }
            case "delete_records" -> {
                var before = RecordsToDelete.beforeOffset(with.get(2).asLong());
                yield admin.deleteRecords(Map.of(partition(with), before)).all().get();
            }
            case "groups" -> admin.listGroups().all().get().stream().map(each -> each.groupId()).toList();
            case "group_state" -> {
                GroupState state = admin.describeConsumerGroups(List.of(name)).all().get().get(name).groupState();
                yield state.toString();
            }
            case "delete_group" -> admin.deleteConsumerGroups(List.of(name)).all().get();
            default -> throw new IllegalArgumentException(call);
        };
    }

    Object write(TopicPartition to, List<String> values, Map<String, Object> settings) throws Exception {
        try (var producer = producer(settings)) {
            send(producer, to, values);
        }
        return null;
    }

    static void send(KafkaProducer<String, String> producer, TopicPartition to, List<String> values) throws Exception {
        var sent = new ArrayList<Future<?>>();
        for (var value : values) {
            sent.add(producer.send(new ProducerRecord<>(to.topic(), to.partition(), null, value)));
        }
        producer.flush();
        for (var each : sent) {
            each.get();
        }
    }

    List<String> read(TopicPartition from, long offset, int count, Map<String, Object> settings) {
        var read = new ArrayList<String>();
        try (var consumer = consumer(settings)) {
            consumer.assign(List.of(from));
            consumer.seek(from, offset);
            while (read.size() < count) {
                consumer.poll(A_MOMENT).forEach(record -> read.add(record.value()));
            }
        }
        return read;
    }

    KafkaProducer<String, String> producer(Map<String, Object> settings) {
        settings.put("bootstrap.servers", bootstrap);
        return new KafkaProducer<>(settings, new StringSerializer(), new StringSerializer());
    }

    KafkaConsumer<String, String> consumer(Map<String, Object> settings) {
        settings.put("bootstrap.servers", bootstrap);
        return new KafkaConsumer<>(settings, new StringDeserializer(), new StringDeserializer());
    }

    static TopicPartition partition(JsonNode with) {
        return new TopicPartition(with.get(0).asText(), with.get(1).asInt());
    }

    static List<Integer> partitions(Collection<TopicPartition> partitions) {
        return partitions.stream().map(TopicPartition::partition).toList();
    }

    static List<String> texts(JsonNode node) {
        return JSON.convertValue(node, new TypeReference<List<String>>() {});
    }

    static Map<String, Object> settings(JsonNode node) {
        return JSON.convertValue(node, new TypeReference<Map<String, Object>>() {});
    }

    /** A member of a group, and what it was assigned and has given up since it was last polled. */
    static class Member implements ConsumerRebalanceListener {
        final KafkaConsumer<String, String> consumer;
        final List<Object> changes = new ArrayList<>();

        Member(KafkaConsumer<String, String> consumer, String topic) {
            this.consumer = consumer;
            consumer.subscribe(Set.of(topic), this);
        }

        Object poll() {
            changes.clear();
            var records = new ArrayList<List<Object>>();
            for (ConsumerRecord<String, String> record : consumer.poll(A_MOMENT)) {
                records.add(List.of(record.partition(), record.value()));
            }
            return Map.of("records", records, "changes", changes);
        }

        @Override
        public void onPartitionsAssigned(Collection<TopicPartition> assigned) {
            changes.add(List.of("assigned", partitions(assigned)));
        }

        @Override
        public void onPartitionsRevoked(Collection<TopicPartition> revoked) {
            changes.add(List.of("revoked", partitions(revoked)));
        }
    }
}
