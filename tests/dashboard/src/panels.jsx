// Thin panels around Grafana's own components, in place of its plugins, which are not published. Only
// the state timeline is drawn here.

import {
  PanelPlugin, cacheFieldDisplayNames, dateTimeFormat, getDisplayProcessor, getFieldDisplayName, getFieldDisplayValues, FieldType,
} from '@grafana/data';
import { sceneUtils } from '@grafana/scenes';
import { BigValue, TimeSeries, VizRepeater, useTheme2 } from '@grafana/ui';
import { TableNG } from '@grafana/ui/unstable';

import { ownOptions } from './registries.js';

export const GRAPH_OPTIONS = {
  drawStyle: 'line', lineInterpolation: 'linear', barAlignment: 0, barWidthFactor: 0.6, lineWidth: 1, fillOpacity: 0,
  gradientMode: 'none', spanNulls: false, insertNulls: false, showPoints: 'auto', pointSize: 5, showValues: false,
  stacking: { mode: 'none', group: 'A' }, axisPlacement: 'auto', axisLabel: '', axisColorMode: 'text',
  axisBorderShow: false, axisCenteredZero: false, axisSoftMin: undefined, axisSoftMax: undefined, axisWidth: undefined,
  axisGridShow: undefined, scaleDistribution: { type: 'linear' }, thresholdsStyle: { mode: 'off' },
  lineStyle: undefined, hideFrom: { tooltip: false, viz: false, legend: false },
};

export const TABLE_OPTIONS = {
  align: 'auto', cellOptions: { type: 'auto' }, inspect: false, filterable: false, width: undefined, minWidth: undefined,
  hideFrom: { viz: false }, wrapHeaderText: undefined, wrapText: undefined, tooltip: undefined, footer: undefined,
};

export const TIMELINE_OPTIONS = {
  lineWidth: 0, fillOpacity: 70, spanNulls: false, insertNulls: false, axisPlacement: 'auto',
  hideFrom: { tooltip: false, viz: false, legend: false },
};

// By panel type: what it draws, and the options of fields that it knows.
export const PANELS = {
  stat: [Stat, {}],
  timeseries: [Graph, GRAPH_OPTIONS],
  table: [Cells, TABLE_OPTIONS],
  'state-timeline': [Timeline, TIMELINE_OPTIONS],
};

export function registerPanels() {
  for (const [pluginId, [component, options]] of Object.entries(PANELS)) {
    const plugin = new PanelPlugin(component);
    plugin.useFieldConfig(ownOptions(options));
    sceneUtils.registerRuntimePanelPlugin({ pluginId, plugin });
  }
}

// What Grafana shows in place of a panel without data.
function Empty({ fieldConfig }) {
  const theme = useTheme2();
  return (
    <div className="empty" style={{ color: theme.colors.text.secondary, display: 'grid', placeItems: 'center', height: '100%' }}>
      {fieldConfig.defaults.noValue ?? 'No data'}
    </div>
  );
}

function Stat({ data, fieldConfig, options, width, height, replaceVariables, timeZone }) {
  const theme = useTheme2();
  const getValues = () => getFieldDisplayValues({
    fieldConfig, reduceOptions: options.reduceOptions, replaceVariables, theme, data: data.series, timeZone,
    sparkline: options.graphMode !== 'none',
  });
  return (
    <VizRepeater
      getValues={getValues} source={data} width={width} height={height} orientation={options.orientation} renderCounter={0} autoGrid
      renderValue={({ value, count, width, height, orientation }) => (
        <BigValue
          value={value.display} count={count} width={width} height={height} theme={theme} sparkline={value.sparkline}
          parentOrientation={orientation} colorMode={options.colorMode} graphMode={options.graphMode}
          justifyMode={options.justifyMode} textMode={options.textMode} text={options.text} wideLayout={options.wideLayout}
        />
      )}
    />
  );
}

function Graph({ data, fieldConfig, options, width, height, timeRange, timeZone }) {
  if (data.series.every((frame) => frame.length === 0)) {
    return <Empty fieldConfig={fieldConfig} />;
  }
  // As Grafana's own panel does: what is no finite number is a gap.
  const finite = (field) => (field.type === FieldType.number ? { ...field, values: field.values.map((value) => (Number.isFinite(value) ? value : null)) } : field);
  const frames = data.series.filter((frame) => frame.length > 0).map((frame) => ({ ...frame, fields: frame.fields.map(finite) }));
  return <TimeSeries frames={frames} width={width} height={height} timeRange={timeRange} timeZone={timeZone} legend={options.legend} options={options} structureRev={data.structureRev} />;
}

function Cells({ data, fieldConfig, options, width, height, timeRange }) {
  const [frame] = data.series;
  if (!frame || frame.length === 0) {
    return <Empty fieldConfig={fieldConfig} />;
  }
  // TableNG takes its headers from there.
  cacheFieldDisplayNames(data.series);
  return (
    <TableNG
      data={frame} width={width} height={height} fieldConfig={fieldConfig} timeRange={timeRange} noHeader={!options.showHeader}
      cellHeight={options.cellHeight} initialSortBy={options.sortBy} sortBy={options.sortBy} structureRev={data.structureRev} getActions={() => []} enableVirtualization={false}
    />
  );
}

function Timeline({ data, fieldConfig, options, width, height, timeRange, timeZone }) {
  const theme = useTheme2();
  const rows = data.series.flatMap((frame) => {
    const time = frame.fields.find((field) => field.type === FieldType.time);
    const values = frame.fields.filter((field) => field.type === FieldType.number);
    return values.map((field) => ({ field, frame, time }));
  });
  if (rows.length === 0) {
    return <Empty fieldConfig={fieldConfig} />;
  }
  const shown = rows.slice(0, options.perPage ?? rows.length);
  const labels = Math.min(260, width / 3);
  const axis = 20;
  const row = (height - axis) / shown.length;
  const [from, to] = [timeRange.from.valueOf(), timeRange.to.valueOf()];
  const x = (time) => labels + ((time - from) / (to - from)) * (width - labels);
  const ticks = Array.from({ length: 7 }, (_, n) => from + ((n + 0.5) * (to - from)) / 7);
  const text = { fill: theme.colors.text.primary, fontSize: 12, fontFamily: theme.typography.fontFamily };
  return (
    <svg width={width} height={height}>
      {shown.map(({ field, frame, time }, n) => (
        <g key={n}>
          <text {...text} x={labels - 8} y={n * row + row / 2} textAnchor="end" dominantBaseline="middle">{getFieldDisplayName(field, frame, data.series)}</text>
          {segments(field, time, from, to).map(({ begin, end, color }, k) => (
            <rect
              key={k} x={x(begin)} width={Math.max(1, x(end) - x(begin))} y={n * row + (row * (1 - options.rowHeight)) / 2}
              height={row * options.rowHeight} fill={color} fillOpacity={(field.config.custom?.fillOpacity ?? 70) / 100}
            />
          ))}
        </g>
      ))}
      {ticks.map((time) => (
        <text {...text} key={time} x={x(time)} y={height - 6} textAnchor="middle">{dateTimeFormat(time, { format: 'HH:mm', timeZone })}</text>
      ))}
    </svg>
  );
}

// Times in which a value stayed what it was.
function segments(field, time, from, to) {
  const display = field.display ?? getDisplayProcessor({ field });
  const step = time.config.interval ?? 0;
  const found = [];
  field.values.forEach((value, n) => {
    if (value === null) {
      return;
    }
    const [begin, end] = [Math.max(time.values[n], from), Math.min(time.values[n] + step, to)];
    const last = found.at(-1);
    if (last && last.value === value && last.end >= begin - 1) {
      last.end = end;
    } else {
      found.push({ value, begin, end, color: display(value).color });
    }
  });
  return found;
}
