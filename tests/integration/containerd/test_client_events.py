"""The event stream, with a real task's life in it."""

import signal
import threading
import time

import pytest

from migrator.containerd import RuncOptions, null_io
from migrator.errors import InvalidRequest
from migrator.gen.containerd.events import container_pb2, task_pb2

pytestmark = pytest.mark.real


def gather(subscription, last, about="", limit_s=10):
    """All events up to the topic `last`, of the process `about` if that is given."""
    timer = threading.Timer(limit_s, subscription.close)
    timer.start()
    found = []
    for event in subscription:
        found.append(event)
        if event.topic == last and (not about or event.event.id == about):
            break
    timer.cancel()
    return found


def test_a_tasks_life_is_told_in_order(workshop):
    client = workshop.client
    with client.events.subscribe('topic~="^/tasks/"') as events:
        before = time.time()
        task = workshop.task()
        task.pause()
        task.resume()
        process = task.exec("extra", {"args": ["/bin/true"], "cwd": "/"}, null_io())
        process.start()
        process.wait(timeout_s=10)
        process.delete()
        task.kill(signal.SIGKILL)
        task.wait(timeout_s=10)
        task.delete()  # its own event gets lost when the shim ends before it was passed on
        found = [event for event in gather(events, "/tasks/exit", task.id) if event.event.container_id == task.id]
    topics = [event.topic.removeprefix("/tasks/") for event in found]
    life = [topic for topic in topics if topic not in ("exec-added", "exec-started")]
    assert life == ["create", "start", "paused", "resumed", "exit", "exit"]
    assert topics.index("exec-added") < topics.index("exec-started")
    assert all(event.namespace == "default" for event in found)
    assert all(before - 1 < event.at.timestamp() < time.time() + 1 for event in found)
    exits = [event.event for event in found if event.topic == "/tasks/exit"]
    assert [(one.id, one.exit_status) for one in exits] == [("extra", 0), (task.id, 137)]
    assert exits[1].pid == task.pid


def test_events_of_containers_are_decoded(workshop):
    client = workshop.client
    with client.events.subscribe('topic~="^/containers/"', 'topic=="/tasks/exit"') as events:
        name = workshop.container(["/bin/true"])
        workshop.create(name).start()
        client.task(name).wait(timeout_s=10)
        client.task(name).delete()
        client.containers.delete(name)
        found = gather(events, "/containers/delete")
    kinds = [type(event.event) for event in found]
    assert kinds == [container_pb2.ContainerCreate, task_pb2.TaskExit, container_pb2.ContainerDelete]
    assert found[0].event.id == found[1].event.container_id == found[2].event.id == name


def test_filters_let_through_what_matches_any_of_them(client, new_name):
    other = client.with_namespace(new_name())
    topic = f"/test/{new_name()}"
    with (
        client.events.subscribe(f'topic=="{topic}"') as by_topic,
        client.events.subscribe(f"namespace=={other.namespace}") as by_namespace,
        client.events.subscribe(f"namespace=={other.namespace}", f'topic=="{topic}/end"') as either,
    ):
        client.events.publish(topic, RuncOptions(root="/one"))
        other.events.publish(topic, RuncOptions(root="/two"))
        client.events.publish(f"{topic}/end", RuncOptions())
        other.events.publish(f"{topic}/end", RuncOptions())
        client.events.publish(topic, RuncOptions(root="/last"))
        other.events.publish("/test/over", RuncOptions())
        one, two, three = (next(by_topic) for _ in range(3))
        roots = [RuncOptions.FromString(event.event.value).root for event in (one, two, three)]
        assert sorted(roots) == ["/last", "/one", "/two"]
        assert {one.namespace, two.namespace, three.namespace} == {"default", other.namespace}
        told = gather(by_namespace, "/test/over")
        assert [(event.namespace, event.topic) for event in told] == [
            (other.namespace, topic),
            (other.namespace, f"{topic}/end"),
            (other.namespace, "/test/over"),
        ]
        ends = [(event.namespace, event.topic) for event in gather(either, "/test/over")]
        assert ("default", f"{topic}/end") in ends
        assert ("default", topic) not in ends


def test_what_is_published_reaches_everyone(client, new_name):
    topic = f"/test/{new_name()}"
    with client.events.subscribe(f'topic=="{topic}"') as one, client.events.subscribe() as two:
        client.events.publish(topic, RuncOptions(root="/here"))
        for found in (next(one), gather(two, topic)[-1]):
            assert found.topic == topic
            assert RuncOptions.FromString(found.event.value).root == "/here"


def test_nothing_is_missed_after_subscribe_returned(client, new_name):
    for _ in range(20):
        topic = f"/test/{new_name()}"
        with client.events.subscribe(f'topic=="{topic}"', timeout_s=10) as events:
            client.events.publish(topic, RuncOptions())
            assert next(events).topic == topic


def test_a_closed_subscription_ends_also_while_somebody_waits(client):
    events = client.events.subscribe('topic=="/test/never"')
    found = []
    waiter = threading.Thread(target=lambda: found.append(list(events)))
    waiter.start()
    time.sleep(0.2)
    assert waiter.is_alive()
    events.close()
    waiter.join(5)
    assert found == [[]]
    assert list(events) == []
    events.close()


def test_a_subscription_ends_by_itself_after_its_time(client):
    began = time.monotonic()
    assert list(client.events.subscribe('topic=="/test/never"', timeout_s=0.5)) == []
    assert 0.3 < time.monotonic() - began < 5


def test_a_topic_and_a_filter_must_make_sense(client):
    with pytest.raises(InvalidRequest) as caught:
        client.events.publish("no-slash", RuncOptions())
    assert caught.value.code == "event_invalid"
    with pytest.raises(InvalidRequest) as caught:
        client.events.subscribe("topic==/a/b")
    assert "invalid quote" in caught.value.message
