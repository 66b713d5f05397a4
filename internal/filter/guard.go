package filter

import (
	"reflect"

	"github.com/expr-lang/expr"
	"github.com/expr-lang/expr/ast"
)

// Names of what guard puts into an expression. Authors cannot use them.
const (
	meterName = "__meter"
	readName  = "__read"
	holdName  = "__hold"
	matchName = "__match"
	stepName  = "__step"
)

// guardFunctions are the options that make the meter callable.
func guardFunctions() []expr.Option {
	return []expr.Option{
		expr.Function(readName, func(a ...any) (any, error) {
			return a[1], a[0].(*meter).read(a[1])
		}, new(func(*meter, any) any)),
		expr.Function(holdName, func(a ...any) (any, error) {
			return a[1], a[0].(*meter).hold(a[1])
		}, new(func(*meter, any) any)),
		expr.Function(matchName, func(a ...any) (any, error) {
			return a[1], a[0].(*meter).match(a[1], a[2].(int))
		}, new(func(*meter, any, int) any)),
		expr.Function(stepName, func(a ...any) (any, error) {
			return true, a[0].(*meter).spend(stepWork)
		}, new(func(*meter) bool)),
	}
}

// guard is a visitor that lets an expression pay for what it does: for each
// turn of a loop, for each value that an operator or a function looks at as a
// whole, and for texts and arrays that are made. What has a small bound (a
// comparison with a written number, the topic's name) is free, and so is what
// happens once: the length of the text bounds it.
//
// It needs the types of the nodes, and to see children before parents.
type guard struct{}

func (guard) Visit(node *ast.Node) {
	switch n := (*node).(type) {
	case *ast.PredicateNode:
		step := call(n, stepName)
		n.Node = &ast.SequenceNode{Nodes: []ast.Node{step, n.Node}}
	case *ast.BinaryNode:
		guardOperator(node, n)
	case *ast.BuiltinNode:
		for i := range n.Arguments {
			if _, ok := n.Arguments[i].(*ast.PredicateNode); !ok {
				pay(&n.Arguments[i])
			}
		}
		switch n.Name {
		case "string", "upper", "lower", "split", "keys", "values":
			hold(node)
		}
	case *ast.CallNode:
		if id, ok := n.Callee.(*ast.IdentifierNode); ok && id.Value[0] == '_' {
			return // one of ours
		}
		for i := range n.Arguments {
			pay(&n.Arguments[i])
		}
		hold(node)
	}
}

func guardOperator(node *ast.Node, n *ast.BinaryNode) {
	switch n.Operator {
	case "==", "!=", "<", "<=", ">", ">=":
		if isShort(n.Left) || isShort(n.Right) {
			return // no more is looked at than the shorter has
		}
		pay(&n.Left)
		pay(&n.Right)
	case "in", "not in", "contains", "startsWith", "endsWith":
		pay(&n.Left)
		pay(&n.Right)
	case "matches":
		size, _ := patternSize(n.Right.(*ast.StringNode).Value) // rules has seen it
		n.Left = call(n.Left, matchName, n.Left, &ast.IntegerNode{Value: size})
	case "+":
		if isScalar(n.Left) || isScalar(n.Right) {
			return
		}
		hold(node)
	}
}

// pay wraps the operand in a call that pays for looking at it, unless it is
// short.
func pay(operand *ast.Node) {
	if !isShort(*operand) {
		*operand = call(*operand, readName, *operand)
	}
}

// hold wraps a node in a call that pays for the memory of its value.
func hold(node *ast.Node) {
	if !isScalar(*node) {
		*node = call(*node, holdName, *node)
	}
}

// call makes a call of one of the guard's functions, at the place of node.
func call(at ast.Node, name string, args ...ast.Node) ast.Node {
	n := &ast.CallNode{
		Callee:    &ast.IdentifierNode{Value: name},
		Arguments: append([]ast.Node{&ast.IdentifierNode{Value: meterName}}, args...),
	}
	n.SetLocation(at.Location())
	return n
}

// isShort reports whether the value of n has a small bound.
func isShort(n ast.Node) bool {
	switch n := n.(type) {
	case *ast.StringNode, *ast.NilNode:
		return true
	case *ast.IdentifierNode:
		switch n.Value {
		case "topic", "type", "key", "id":
			return true
		}
	}
	return isScalar(n)
}

// isScalar reports whether the value of n is known to be a number or a boolean.
func isScalar(n ast.Node) bool {
	switch n.(type) {
	case *ast.IntegerNode, *ast.FloatNode, *ast.BoolNode:
		return true
	}
	switch n.Type().Kind() {
	case reflect.Bool, reflect.Float32, reflect.Float64,
		reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64,
		reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		return true
	}
	return false
}
