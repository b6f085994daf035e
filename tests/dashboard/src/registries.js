// What Grafana's application, which is not published, puts into the registries of its libraries.

import {
  FieldType, booleanOverrideProcessor, dataLinksOverrideProcessor, displayNameOverrideProcessor,
  identityOverrideProcessor, numberOverrideProcessor, standardEditorsRegistry,
  standardFieldConfigEditorRegistry, standardTransformers, standardTransformersRegistry,
  stringOverrideProcessor, thresholdsOverrideProcessor, unitOverrideProcessor,
  valueMappingsOverrideProcessor,
} from '@grafana/data';

const nothing = () => null;

function option(id, process, shouldApply = () => true) {
  return { id, path: id, name: id, description: '', editor: nothing, override: nothing, process, shouldApply, settings: {}, getItemsCount: undefined };
}

const isNumber = (field) => field.type === FieldType.number;

export function fillRegistries() {
  standardFieldConfigEditorRegistry.setInit(() => [
    option('unit', unitOverrideProcessor),
    option('min', numberOverrideProcessor, isNumber),
    option('max', numberOverrideProcessor, isNumber),
    option('fieldMinMax', booleanOverrideProcessor, isNumber),
    option('decimals', numberOverrideProcessor, isNumber),
    option('displayName', displayNameOverrideProcessor),
    option('color', identityOverrideProcessor),
    option('noValue', stringOverrideProcessor),
    option('links', dataLinksOverrideProcessor),
    option('actions', identityOverrideProcessor),
    option('mappings', valueMappingsOverrideProcessor),
    option('thresholds', thresholdsOverrideProcessor),
    option('filterable', booleanOverrideProcessor),
    option('description', stringOverrideProcessor),
  ]);
  const editors = ['text', 'number', 'slider', 'boolean', 'select', 'multi-select', 'radio', 'unit', 'color', 'fieldColor', 'stats-picker', 'strings', 'links', 'mappings', 'thresholds', 'timezone', 'field-name'];
  standardEditorsRegistry.setInit(() => editors.map((id) => ({ id, name: id, editor: nothing })));
  // Some of them are listed under two names.
  const transformers = new Map(Object.values(standardTransformers).map((one) => [one.id, one]));
  standardTransformersRegistry.setInit(() => [...transformers.values()].map((one) => ({ id: one.id, name: one.name, transformation: async () => one, editor: nothing })));
}

// A panel's own options of fields; what is not declared, Grafana drops.
export function ownOptions(defaults) {
  return {
    useCustomConfig: (builder) => {
      for (const [path, defaultValue] of Object.entries(defaults)) {
        builder.addCustomEditor({ id: path, path, name: path, defaultValue, editor: nothing, override: nothing, process: identityOverrideProcessor, shouldApply: () => true });
      }
    },
  };
}
