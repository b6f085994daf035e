// A data source for Prometheus: what Grafana's own plugin does with the queries that our dashboards
// have, over the server's proxy to the real Prometheus.

import { DataSourceApi, FieldType, LoadingState, toDataFrame } from '@grafana/data';
import { sceneGraph } from '@grafana/scenes';
import { from } from 'rxjs';

export const UID = 'prometheus';

// As the agents export and the rules evaluate; in Grafana it is the data source's scrape interval.
const SMALLEST_STEP = 10;

export class Prometheus extends DataSourceApi {
  constructor() {
    super({ id: 1, uid: UID, type: 'prometheus', name: 'Prometheus', jsonData: {}, meta: { id: 'prometheus', info: {} }, access: 'proxy', readOnly: true });
    this.interval = `${SMALLEST_STEP}s`;
  }

  // Grafana's runner of requests, without streaming and caches.
  static runRequest(source, request) {
    return from(source.query(request).then(
      (series) => ({ state: LoadingState.Done, series, timeRange: request.range, request }),
      (error) => ({
        state: LoadingState.Error, series: [], timeRange: request.range, request,
        errors: [{ message: error.message }], error: { message: error.message },
      }),
    ));
  }

  async query(request) {
    const answers = request.targets.filter((target) => !target.hide).map((target) => this.#answer(target, request));
    const frames = (await Promise.all(answers)).flat();
    // As Grafana names the columns of values where several queries give a table.
    if (frames.length > 1 && request.targets.every((target) => target.format === 'table')) {
      frames.forEach((frame) => { frame.fields.at(-1).name = `Value #${frame.refId}`; });
    }
    return frames;
  }

  async #answer(target, request) {
    const [start, end] = [request.range.from.valueOf() / 1000, request.range.to.valueOf() / 1000];
    const step = Math.max(SMALLEST_STEP, Math.ceil(request.intervalMs / 1000));
    const expr = interpolate(target.expr, request, {
      __interval: `${step}s`,
      __rate_interval: `${Math.max(step + SMALLEST_STEP, 4 * SMALLEST_STEP)}s`,
      __range: `${Math.round(end - start)}s`,
      __range_s: `${Math.round(end - start)}`,
    });
    // Grafana aligns ranges to the step, so that pictures do not flicker.
    const answer = target.instant
      ? await get('query', { query: expr, time: end })
      : await get('query_range', { query: expr, start: Math.floor(start / step) * step, end: Math.floor(end / step) * step, step });
    return target.format === 'table' ? [table(answer.result, target)] : answer.result.map((one) => series(one, target, step));
  }

  // Variables: label_values(selector, label), and nothing else.
  async metricFindQuery(query, options) {
    const text = interpolate(query.query ?? query, options, {});
    const [, selector, label] = /^label_values\((?:(.+),)?\s*([A-Za-z_]\w*)\)$/.exec(text) ?? [];
    if (!label) {
      throw new Error(`the renderer knows label_values(selector, label), not ${text}`);
    }
    const range = options.range ?? options.timeRange;
    const search = { ...(selector && { 'match[]': selector.trim() }) };
    if (range) {
      Object.assign(search, { start: range.from.valueOf() / 1000, end: range.to.valueOf() / 1000 });
    }
    const values = await get(`label/${label}/values`, search);
    return values.map((text) => ({ text }));
  }

  async testDatasource() {
    return { status: 'success', message: '' };
  }
}

// As Grafana's plugin puts values into PromQL: several, or all, become a regular expression.
function interpolate(text, request, own) {
  const scene = request.scopedVars.__sceneObject.value.valueOf();
  const scoped = Object.fromEntries(Object.entries(own).map(([name, value]) => [name, { text: value, value }]));
  const escape = (value) => value.replace(/[$^*{}[\]'+?.()|\\]/g, '\\\\$&');
  return sceneGraph.interpolate(scene, text, { ...request.scopedVars, ...scoped }, (value, variable) => {
    const several = variable.multi || variable.includeAll;
    if (!Array.isArray(value)) {
      return several ? escape(String(value)) : String(value);
    }
    return value.length === 1 ? escape(value[0]) : `(${value.map(escape).join('|')})`;
  });
}

async function get(path, search) {
  const response = await fetch(`/api/v1/${path}?${new URLSearchParams(search)}`);
  const answer = await response.json();
  if (answer.status !== 'success') {
    throw new Error(answer.error);
  }
  return answer.data;
}

const number = (text) => (text === '+Inf' ? Infinity : text === '-Inf' ? -Infinity : Number(text));

function series({ metric, value, values }, target, step) {
  // A gap of the data is a gap of the line.
  const points = [];
  for (const [time, text] of values ?? [value]) {
    const last = points.at(-1);
    if (last && time - last[0] > step * 1.5) {
      points.push([last[0] + step, null]);
    }
    points.push([time, number(text)]);
  }
  return toDataFrame({
    refId: target.refId,
    meta: { type: 'timeseries-multi' },
    fields: [
      { name: 'Time', type: FieldType.time, config: { interval: step * 1000 }, values: points.map(([time]) => time * 1000) },
      { name: 'Value', type: FieldType.number, labels: metric, config: { displayNameFromDS: name(metric, target) }, values: points.map(([, value]) => value) },
    ],
  });
}

function name(metric, { legendFormat, expr }) {
  if (legendFormat && legendFormat !== '__auto') {
    return legendFormat.replace(/\{\{\s*(.+?)\s*\}\}/g, (_, label) => metric[label] ?? '');
  }
  const { __name__ = '', ...labels } = metric;
  const pairs = Object.entries(labels).map(([label, value]) => `${label}="${value}"`);
  return pairs.length || __name__ ? `${__name__}{${pairs.join(', ')}}` : expr;
}

function table(result, { refId }) {
  const labels = [...new Set(result.flatMap(({ metric }) => Object.keys(metric)))].sort();
  const column = (name, type, of) => ({ name, type, config: { filterable: true }, values: result.map(of) });
  return toDataFrame({
    refId,
    fields: [
      column('Time', FieldType.time, ({ value: [time] }) => time * 1000),
      ...labels.map((label) => column(label, FieldType.string, ({ metric }) => metric[label])),
      column('Value', FieldType.number, ({ value: [, text] }) => number(text)),
    ],
  });
}
