// Any number of activators on as many nodes as that takes, as far as Prometheus can tell: exports in
// the form of the agents', by OTLP into a real Prometheus, at the agents' own pace. For looking at
// dashboards with more activators than a machine has room for; nothing here watches a kernel.
//
//   node crowd.mjs --prometheus URL --activators 300 --seconds 600
//
// One of them is cut off, two were before, one flaps, and one agent falls silent at the half.

import { parseArgs } from 'node:util';

const { values: options } = parseArgs({
  options: {
    prometheus: { type: 'string' },
    activators: { type: 'string', default: '300' },
    seconds: { type: 'string', default: '600' },
    cluster: { type: 'string', default: 'production' },
  },
});

const PER_NODE = 10;
const INTERVAL = 10; // seconds: the agents' default
const CHECK = 5; // seconds between two liveness checks
const count = Number(options.activators);
const began = Date.now() / 1000;

// Names as Kubernetes makes them: no letter that could spell a word, digits but 0, 1 and 3.
function suffix(n, length) {
  const letters = 'bcdfghjklmnpqrstvwxz2456789';
  let text = '';
  for (let seed = (n + 1) * 7919; text.length < length; seed = (seed * 48271) % 2147483647) {
    text += letters[seed % letters.length];
  }
  return text;
}

// Who is cut off when, in seconds since the begin.
function outages(n) {
  if (n === Math.floor(count * 0.457)) return [[120, Infinity, 'stalled']];
  if (n === Math.floor(count * 0.21) && count > 1) return [[40, 75, 'timeout']];
  if (n === Math.floor(count * 0.83) && count > 1) return [[60, 110, 'connection_refused']];
  if (n === Math.floor(count * 0.6) && count > 2) return Array.from({ length: 40 }, (_, k) => [30 + k * 45, 33 + k * 45, 'connection_reset']);
  return [];
}

// The causes that the crowd has, at 0 from the begin as the agents have all of them.
const NONE = ['liveness', 'disconnect', 'connect'].flatMap((kind) => ['stalled', 'timeout', 'connection_refused', 'connection_reset', 'peer_closed'].map((cause) => [`${kind} ${cause}`, 0]));

const activators = Array.from({ length: count }, (_, n) => ({
  pod: `activator-7c9f8b6d5-${suffix(n, 5)}`, outages: outages(n), checks: 0, liveness: 0, connects: 1, losses: 0, retransmits: 0,
  errors: new Map(NONE), ended: [], failed: [], was: true, cause: undefined, rtt: 0.0002 + (n % 17) * 0.00004,
}));

function advance(one, now) {
  const outage = one.outages.find(([from, to]) => from <= now && now < to);
  const count = (kind, cause) => {
    const key = `${kind} ${cause}`;
    one.errors.set(key, (one.errors.get(key) ?? 0) + 1);
  };
  if (one.was && outage) {
    one.losses += 1;
    count('disconnect', outage[2]);
  }
  one.liveness += INTERVAL / CHECK;
  if (outage) {
    one.cause = outage[2];
    count('liveness', outage[2]);
    count('liveness', outage[2]);
    one.retransmits += 3;
    count('connect', outage[2] === 'stalled' ? 'timeout' : outage[2]);
    one.failed.push([outage[2] === 'connection_refused' ? 0.0004 : 3, outage[2] === 'stalled' ? 'timeout' : outage[2]]);
  } else if (!one.was) {
    one.connects += 1;
    const past = one.outages.findLast(([, to]) => to <= now);
    one.ended.push([past[1] - past[0], past[2]]);
  }
  one.was = !outage;
}

const attribute = (key, value) => ({ key, value: { stringValue: String(value) } });
const attributes = (values) => Object.entries(values).map(([key, value]) => attribute(key, value));
const nanos = (seconds) => `${Math.round(seconds * 1e6)}000`;

function metric(name, unit, kind, points, at) {
  const dataPoints = points.filter(Boolean).map(([of, value]) => ({
    attributes: attributes(of), timeUnixNano: nanos(at), ...(kind !== 'gauge' && { startTimeUnixNano: nanos(began) }),
    ...(kind === 'histogram' ? value : { asDouble: value }),
  }));
  const data = { dataPoints, ...(kind !== 'gauge' && { aggregationTemporality: 2 }), ...(kind === 'sum' && { isMonotonic: true }) };
  return { name, unit, [kind]: data };
}

function histogram(values) {
  const bounds = [0.001, 0.01, 0.1, 0.5, 1, 5, 10, 30, 60, 300, 1800];
  const counts = Array(bounds.length + 1).fill(0);
  for (const value of values) {
    const bucket = bounds.findIndex((bound) => value <= bound);
    counts[bucket < 0 ? bounds.length : bucket] += 1;
  }
  return { count: values.length, sum: values.reduce((sum, value) => sum + value, 0), explicitBounds: bounds, bucketCounts: counts };
}

function byCause(durations) {
  const causes = [...new Set(durations.map(([, cause]) => cause))];
  return causes.map((cause) => [{ peer: 'autoscaler', 'error.type': cause }, histogram(durations.filter(([, of]) => of === cause).map(([length]) => length))]);
}

function exportOf(node, own, at) {
  const link = (one) => ({ peer: 'autoscaler', 'k8s.namespace.name': 'knative-serving', 'k8s.pod.name': one.pod });
  const conn = 'kn.activator.stats.conn';
  const hooks = ['inet_sock_set_state', 'tcp_retransmit_skb', 'tcp_destroy_sock', 'sys_enter_connect', 'sys_exit_connect', 'sched_process_exec'];
  const now = at - began;
  const metrics = [
    metric(`${conn}.reachable`, '{reachable}', 'gauge', own.map((one) => [link(one), one.was ? 1 : 0]), at),
    metric(`${conn}.checks`, '{check}', 'sum', own.flatMap((one) => [
      [{ ...link(one), 'kn.check.kind': 'liveness' }, one.liveness],
      [{ ...link(one), 'kn.check.kind': 'connect' }, one.connects + one.failed.length],
      [{ ...link(one), 'kn.check.kind': 'disconnect' }, one.losses],
    ]), at),
    metric(`${conn}.errors`, '{error}', 'sum', own.flatMap((one) => [...one.errors].map(([key, value]) => {
      const [kind, cause] = key.split(' ');
      return [{ ...link(one), 'kn.check.kind': kind, 'error.type': cause }, value];
    })), at),
    metric(`${conn}.connects`, '{connection}', 'sum', own.map((one) => [link(one), one.connects]), at),
    metric(`${conn}.retransmits`, '{segment}', 'sum', own.map((one) => [link(one), one.retransmits]), at),
    metric(`${conn}.rtt`, 's', 'gauge', own.map((one) => one.was && [link(one), one.rtt * (1 + 0.2 * Math.sin(now / 60 + one.rtt * 1e5))]), at),
    metric(`${conn}.silence`, 's', 'gauge', own.map((one) => one.was && [link(one), (now * 1.7 + one.rtt * 1e5) % 3.33]), at),
    metric(`${conn}.connect.duration`, 's', 'histogram', [
      [{ peer: 'autoscaler' }, histogram(own.flatMap((one) => Array(one.connects).fill(0.003 + one.rtt)))],
      ...byCause(own.flatMap((one) => one.failed)),
    ], at),
    metric(`${conn}.outage.duration`, 's', 'histogram', byCause(own.flatMap((one) => one.ended)), at),
    metric('statlink.links', '{link}', 'gauge', [[{}, own.length]], at),
    metric('statlink.hook.attached', '{hook}', 'gauge', hooks.map((hook) => [{ 'statlink.hook.name': hook }, 1]), at),
    metric('statlink.hook.misses', '{event}', 'sum', hooks.map((hook) => [{ 'statlink.hook.name': hook }, 0]), at),
    metric('statlink.records.read', '{record}', 'sum', [[{ 'statlink.record.kind': 'state' }, now * 0.2], [{ 'statlink.record.kind': 'attempt' }, now * 0.1]], at),
    metric('statlink.records.lost', '{record}', 'sum', [[{ 'statlink.loss.reason': 'ring_full' }, 0]], at),
    metric('statlink.record.age', 's', 'gauge', [[{}, now % 37]], at),
    metric('statlink.ring.usage', 'By', 'gauge', [[{}, 96 * (own.length % 7)]], at),
    metric('statlink.ring.limit', 'By', 'gauge', [[{}, 262144]], at),
    metric('statlink.exports', '{export}', 'sum', [[{ 'statlink.export.outcome': 'ok' }, Math.round(now / INTERVAL)], [{ 'statlink.export.outcome': 'failed' }, 0]], at),
    metric('statlink.memory.usage', 'By', 'gauge', [[{}, 12.4e6 + own.length * 4e4]], at),
  ];
  const resource = { 'service.name': 'statlink', 'service.version': '0.1.0', 'service.instance.id': `${options.cluster}/${node}`, 'k8s.node.name': node, 'k8s.cluster.name': options.cluster };
  return { resource: { attributes: attributes(resource) }, scopeMetrics: [{ scope: { name: 'statlink' }, metrics: metrics.filter((one) => (one.gauge ?? one.sum ?? one.histogram).dataPoints.length) }] };
}

const nodes = Array.from({ length: Math.ceil(count / PER_NODE) }, (_, n) => [`node-${String(n + 1).padStart(3, '0')}`, activators.slice(n * PER_NODE, (n + 1) * PER_NODE)]);

for (let at = began; at - began < Number(options.seconds); at += INTERVAL) {
  activators.forEach((one) => advance(one, at - began));
  const half = at - began > Number(options.seconds) / 2;
  const talking = nodes.filter((_, n) => !(half && nodes.length > 3 && n === 2));
  const body = JSON.stringify({ resourceMetrics: talking.map(([node, own]) => exportOf(node, own, at)) });
  const response = await fetch(new URL('/api/v1/otlp/v1/metrics', options.prometheus), { method: 'POST', headers: { 'content-type': 'application/json' }, body });
  if (!response.ok) {
    throw new Error(`Prometheus refused an export: ${response.status} ${await response.text()}`);
  }
  await new Promise((resolve) => setTimeout(resolve, Math.max(0, (at + INTERVAL) * 1000 - Date.now())));
}
